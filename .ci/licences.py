#!/usr/bin/env python3
"""Judges licences, bans and sources of all crates by deny.toml, where cargo-deny is not installed.

Reads the output of `cargo metadata --format-version 1` from stdin. Ends with 1 and a list if a crate breaks a rule.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

RULES = tomllib.loads((Path(__file__).parent.parent / "deny.toml").read_text())
ALLOWED = set(RULES["licenses"]["allow"])
BANNED = {entry["crate"] for entry in RULES["bans"]["deny"]}
REGISTRIES = {f"registry+{url}" for url in RULES["sources"]["allow-registry"]}


def tokens(expression):
    """The words of an SPDX expression; `A/B` is an old way to write `A OR B`."""
    return re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))


def is_allowed(expression):
    """Whether an SPDX expression can be fulfilled by allowed licences. AND binds stronger than OR."""
    words = tokens(expression)

    def any_of():
        result = all_of()
        while words and words[0] == "OR":
            words.pop(0)
            # Both sides are read, whatever the first one was.
            right = all_of()
            result = result or right
        return result

    def all_of():
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            right = one()
            result = result and right
        return result

    def one():
        if not words:
            raise ValueError("ends early")
        word = words.pop(0)
        if word == "(":
            result = any_of()
            if not words or words.pop(0) != ")":
                raise ValueError("a bracket is not closed")
            return result
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in ALLOWED

    result = any_of()
    if words:
        raise ValueError(f"not understood from {words[0]!r} on")
    return result


def faults(package):
    """What is wrong with one crate."""
    licence = package["license"]
    if not licence:
        yield "names no licence"
    else:
        try:
            if not is_allowed(licence):
                yield f"has the licence {licence}, which deny.toml does not allow"
        except (ValueError, IndexError) as error:
            yield f"has a licence that cannot be read: {licence} ({error})"
    if package["name"] in BANNED:
        yield "is banned by deny.toml"
    if package["source"] is not None and package["source"] not in REGISTRIES:
        yield f"comes from {package['source']}"


def main():
    for expression, wanted in [
        ("MIT OR GPL-3.0", True),
        ("GPL-3.0 OR (MIT AND Zlib)", True),
        ("MIT AND GPL-3.0", False),
        ("GPL-3.0/Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH Other-exception", False),
        ("MIT AND GPL-3.0 OR Zlib", True),
    ]:
        assert is_allowed(expression) == wanted, expression
    packages = json.load(sys.stdin)["packages"]
    found = [f"{p['name']} {p['version']} {fault}" for p in packages for fault in faults(p)]
    print("\n".join(found) or f"{len(packages)} crates: licences, bans and sources are as deny.toml has them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
