//! How strictly JSON is read: whatever two programs could read differently is refused.

use dolmen::ledger::block::Height;
use dolmen::ledger::json;
use dolmen::ledger::limits::MAX_SAFE_INTEGER;
use dolmen::ledger::rules::RuleError;

use super::{good_text, replaced, root_text, texts};

/// Reads a text as one block and as the second block of an array, and expects both to refuse it as no block.
fn is_no_block(case: &str, text: &str) {
    let shown: String = text.chars().take(300).collect();
    let one = json::parse_block(text);
    assert!(matches!(one, Err(RuleError::NotABlock { .. })), "{case}: {shown}: {one:?}");
    let many = json::parse_blocks(&format!("[{},{text}]", good_text()));
    assert!(matches!(many, Err(RuleError::NotABlock { .. })), "{case}, in an array: {shown}: {many:?}");
}

#[test]
fn numbers_that_programs_read_differently_are_refused() {
    let good = good_text();
    let numbers = [
        "1.0",
        "1.5",
        "1e0",
        "1e3",
        "1E3",
        "10e-1",
        "-0",
        "-1",
        "+1",
        "01",
        "0x1",
        "1_000",
        "\"1\"",
        "true",
        "null",
        "[1]",
        "{}",
        "NaN",
        "Infinity",
        "1.",
        ".1",
        "18446744073709551616",
        "1e400",
        "99999999999999999999999999",
        "",
    ];
    for number in numbers {
        is_no_block("an index", &replaced(&good, "\"index\":1,", &format!("\"index\":{number},")));
        is_no_block("a time", &replaced(&good, "\"time\":1700000000,", &format!("\"time\":{number},")));
    }
    for (number, got) in
        [("9007199254740992", 1 << 53), ("9007199254740993", (1 << 53) + 1), ("18446744073709551615", u64::MAX)]
    {
        let index = replaced(&good, "\"index\":1,", &format!("\"index\":{number},"));
        assert_eq!(json::parse_block(&index), Err(RuleError::IndexRange { got }), "{number}");
        let time = replaced(&good, "\"time\":1700000000,", &format!("\"time\":{number},"));
        assert_eq!(json::parse_block(&time), Err(RuleError::TimeRange { got }), "{number}");
    }
    let largest = replaced(&good, "\"index\":1,", "\"index\":9007199254740991,");
    assert_eq!(json::parse_block(&largest).expect("2^53-1 is exact").header.index, Height(MAX_SAFE_INTEGER));
}

#[test]
fn texts_that_are_not_one_block_are_refused() {
    let good = good_text();
    let swap = |from: &str, to: &str| replaced(&good, from, to);
    let header = &good[good.find(":{").expect("a header") + 1..=good.find('}').expect("a header")];
    let cases: Vec<(&str, String)> = vec![
        ("nothing", String::new()),
        ("white space", " \n".to_owned()),
        ("null", "null".to_owned()),
        ("a number", "1".to_owned()),
        ("a text", "\"block\"".to_owned()),
        ("an empty object", "{}".to_owned()),
        ("an empty array", "[]".to_owned()),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("a NUL in front", format!("\0{good}")),
        ("a NUL behind", format!("{good}\0")),
        ("a second block behind", format!("{good}{good}")),
        ("a bracket behind", format!("{good}]")),
        ("a comma behind", format!("{good},")),
        ("half of it", good[..good.len() / 2].to_owned()),
        ("all but the last bracket", good[..good.len() - 1].to_owned()),
        ("a comment", format!("{good}//")),
        ("a comma before a bracket", swap("]}", "],}")),
        ("single quotes", good.replace('"', "'")),
        ("a raw line break in a text", swap("Hello", "He\nllo")),
        ("a raw NUL in a text", swap("Hello", "He\0llo")),
        ("an unknown escape", swap("Hello", "He\\xllo")),
        ("a half escape", swap("Hello", "He\\u12")),
        ("a lone leading surrogate", swap("Hello", "\\ud800")),
        ("a lone trailing surrogate", swap("Hello", "\\udc00")),
        ("surrogates the wrong way round", swap("Hello", "\\udc00\\ud800")),
        ("a leading surrogate and a letter", swap("Hello", "\\ud83dA")),
        ("a lone surrogate in the header", swap("1.0.0", "\\ud800")),
        ("the body doubled", swap("\"body\":", "\"body\":[],\"body\":")),
        ("the header doubled", swap("{\"header\":", &format!("{{\"header\":{header},\"header\":"))),
        ("the index doubled", swap("\"index\":1,", "\"index\":1,\"index\":1,")),
        ("the index doubled behind an escape", swap("\"index\":1,", "\"index\":1,\"\\u0069ndex\":2,")),
        ("no body", swap(",\"body\":[\"Hello\"]", "")),
        ("no header", "{\"body\":[\"Hello\"]}".to_owned()),
        ("no version", swap("\"version\":\"1.0.0\",", "")),
        ("no index", swap("\"index\":1,", "")),
        ("no time", swap("\"time\":1700000000,", "")),
        ("keys in other case", swap("previousHash", "PreviousHash")),
        ("keys of the Rust side", swap("previousHash", "previous_hash")),
        ("the body is a text", swap("[\"Hello\"]", "\"Hello\"")),
        ("the body is an object", swap("[\"Hello\"]", "{\"0\":\"Hello\"}")),
        ("the body is null", swap("[\"Hello\"]", "null")),
        ("an entry is a number", swap("\"Hello\"", "1")),
        ("an entry is null", swap("\"Hello\"", "null")),
        ("an entry is an object", swap("\"Hello\"", "{\"a\":1}")),
        ("an entry is an array", swap("\"Hello\"", "[\"a\"]")),
        ("the version is a number", swap("\"1.0.0\"", "1")),
        ("the root is null", swap(&format!("\"{}\"", root_text(&texts(&["Hello"]))), "null")),
        ("the header is a text", format!("{{\"header\":{:?},\"body\":[\"Hello\"]}}", header)),
        ("an array around it", format!("[{good}]")),
    ];
    for (case, text) in cases {
        is_no_block(case, &text);
    }
    assert!(json::parse_block(&good).is_ok(), "what the cases above were made of");
}

#[test]
fn arrays_of_blocks_are_read_as_strictly() {
    let good = good_text();
    let refused =
        ["", "null", "{}", &good, "[", "[]]", "[] []", "[,]", "[null]", "[[]]", "[1]", "\"[]\"", "\u{feff}[]"];
    for text in refused {
        assert!(matches!(json::parse_blocks(text), Err(RuleError::NotABlock { .. })), "{text}");
    }
    for text in [format!("[{good},]"), format!("[{good}"), format!("[{good}{good}]"), format!("[[{good}]]")] {
        assert!(matches!(json::parse_blocks(&text), Err(RuleError::NotABlock { .. })), "{text}");
    }
}

/// Objects read as lists would be a second text form, which no tutorial node writes or understands.
#[test]
fn lists_in_place_of_objects_are_refused() {
    let zeros = "0".repeat(64);
    let header = format!("[\"1.0.0\",1,\"{zeros}\",1,\"{zeros}\"]");
    is_no_block("a block as a list", &format!("[{header},[\"Hello\"]]"));
    is_no_block("a header as a list", &format!("{{\"header\":{header},\"body\":[\"Hello\"]}}"));
}

#[test]
fn white_space_order_and_escapes_do_not_matter_when_reading() {
    let good = good_text();
    let block = json::parse_block(&good).expect("a good block");
    let spaced = good.replace(',', " ,\r\n\t").replace(':', " : ");
    let reordered = {
        let (header, body) = good.split_once(",\"body\":").expect("two fields");
        format!("{{\"body\":{},{}}}", &body[..body.len() - 1], &header[1..])
    };
    let escaped = replaced(&replaced(&good, "Hello", "\\u0048ello"), "\"index\"", "\"\\u0069ndex\"");
    for text in [spaced, reordered, escaped] {
        assert_eq!(json::parse_block(&text), Ok(block.clone()), "{text}");
    }
}

#[test]
fn unknown_fields_are_dropped_and_never_written() {
    let good = good_text();
    let block = json::parse_block(&good).expect("a good block");
    let values = ["1", "-0", "1e999", "null", "\"x\"", "[[[]]]", "{\"header\":{\"index\":7}}", "\"\\ud83d\\ude00\""];
    for value in values {
        for place in ["{\"header\":", "{\"version\":"] {
            let text = replaced(&good, place, &format!("{{\"extra\":{value},{}", &place[1..]));
            let read = json::parse_block(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(read, block, "{text}");
            assert_eq!(json::to_string(&read), good, "{text}");
        }
    }
}

#[test]
fn deep_nesting_ends_in_an_error_and_not_in_the_stack() {
    const DEEP: usize = 1_000_000;
    let good = good_text();
    for open in ["[", "{\"header\":", "{\"a\":", "{\"body\":[", "[{\"header\":"] {
        is_no_block("open brackets", &open.repeat(DEEP));
    }
    let nested = format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP));
    is_no_block("brackets in place of an entry", &replaced(&good, "\"Hello\"", &nested));
    is_no_block("brackets in place of a number", &replaced(&good, "\"index\":1", &format!("\"index\":{nested}")));
    is_no_block("brackets in place of the header", &format!("{{\"header\":{nested}}}"));
    assert!(json::parse_blocks(&nested).is_err());
    // In a field that is dropped either answer is right, as long as there is one.
    let dropped = replaced(&good, "{\"header\":", &format!("{{\"extra\":{nested},\"header\":"));
    if let Ok(block) = json::parse_block(&dropped) {
        assert_eq!(json::to_string(&block), good);
    }
}
