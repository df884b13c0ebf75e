//! The tutorial's four cases on real processes over loopback, with dolmen nodes and stand-ins for the tutorial's node in
//! every position of the mix.

mod support;

use support::member::{Kind, Member, wait_equal_at, wait_links};
use support::tutorial::Coin;

/// Every mix of this many members with at least one dolmen node in it.
fn mixes(members: u32) -> impl Iterator<Item = Vec<Kind>> {
    let tutorial = Kind::Tutorial(Coin::Always, 1);
    (0..(1 << members) - 1).map(move |mask: u32| {
        (0..members).map(|place| if mask & (1 << place) == 0 { Kind::Dolmen } else { tutorial }).collect()
    })
}

/// Says which mix failed.
fn in_every_mix(members: u32, story: fn(Vec<Member>)) {
    for mix in mixes(members) {
        eprintln!("mix: {mix:?}");
        story(mix.into_iter().map(Member::start).collect());
    }
}

#[test]
fn case_1_two_are_joined_and_mine_on_either_side() {
    in_every_mix(2, |members| {
        let [a, b] = &members[..] else { unreachable!("two members") };
        b.join(a);
        wait_links(a, 1);
        wait_links(b, 1);
        a.mine("from the first");
        wait_equal_at(&[a, b], 1);
        b.mine("from the second");
        wait_equal_at(&[a, b], 2);
    });
}

#[test]
fn case_2_the_second_comes_late_and_then_mines() {
    in_every_mix(2, |members| {
        let [a, b] = &members[..] else { unreachable!("two members") };
        for entry in ["one", "two", "three"] {
            a.mine(entry);
        }
        b.join(a);
        wait_equal_at(&[a, b], 3);
        b.mine("four");
        wait_equal_at(&[a, b], 4);
    });
}

#[test]
fn case_3_one_of_a_star_is_away_while_the_others_mine() {
    in_every_mix(3, |mut members| {
        let mut away = members.pop().expect("three members");
        let [centre, other] = &members[..] else { unreachable!("two members are left") };
        other.join(centre);
        away.join(centre);
        wait_links(centre, 2);
        centre.mine("while all are there");
        wait_equal_at(&[centre, other, &away], 1);
        away.leave();
        wait_links(centre, 1);
        centre.mine("away 1");
        wait_equal_at(&[centre, other], 2);
        other.mine("away 2");
        wait_equal_at(&[centre, other], 3);
        away.come_back(centre);
        wait_equal_at(&[centre, other, &away], 3);
        away.mine("back");
        wait_equal_at(&[centre, other, &away], 4);
    });
}

#[test]
fn case_4_a_line_of_three_is_mined_at_both_ends() {
    in_every_mix(3, |members| {
        let [left, middle, right] = &members[..] else { unreachable!("three members") };
        left.join(middle);
        right.join(middle);
        wait_links(middle, 2);
        left.mine("left");
        wait_equal_at(&[left, middle, right], 1);
        right.mine("right");
        wait_equal_at(&[left, middle, right], 2);
        left.mine("left again");
        wait_equal_at(&[left, middle, right], 3);
    });
}

/// With a fair coin the tutorial's node may refuse a longer chain that it was sent; the next block gives it another toss.
#[test]
fn a_fair_coin_delays_agreement_but_does_not_prevent_it() {
    for seed in 1..=4 {
        eprintln!("seed {seed}");
        let node = Member::start(Kind::Dolmen);
        let peer = Member::start(Kind::Tutorial(Coin::Fair, seed));
        for entry in ["one", "two", "three"] {
            node.mine(entry);
        }
        peer.join(&node);
        wait_links(&node, 1);
        let mut index = 3;
        let agreed = std::iter::from_fn(|| {
            let soon = std::time::Duration::from_millis(500);
            let equal = support::wait::try_until(soon, || (peer.tip() == node.tip()).then_some(()));
            if equal.is_none() {
                node.mine("another toss");
                index += 1;
            }
            Some(equal.is_some())
        });
        assert!(agreed.take(20).any(|equal| equal), "20 tosses in a row lost with seed {seed}");
        wait_equal_at(&[&node, &peer], index);
    }
}
