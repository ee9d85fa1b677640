//! The rules of a session, step by step and in any order.

use super::super::authority::margin;
use super::*;
use bytes::Bytes;
use proptest::prelude::*;

const T: Duration = Duration::from_secs(5);

fn at(millis: u64) -> Mono {
    Mono::from_origin(Duration::from_millis(millis))
}
fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}
fn core() -> Core {
    let mut core = Core::new("regions/eu/leader".to_owned(), node("a"), "http://a".to_owned(), T, 1);
    core.tick_of_controller(at(0));
    core
}
fn pair(by: &str, term: i64, lease: i64) -> Pair {
    let value = Bytes::from(format!(r#"{{"node":"{by}","url":"http://{by}"}}"#));
    let (key, lease) = ("regions/eu/leader".to_owned(), Some(LeaseId(lease)));
    Pair { key, value, create_revision: term, mod_revision: term, lease }
}
/// Leads in term 11 on lease 7 until 3.9 s, by the lease; the controller ticked at 1 s.
fn leader() -> Core {
    let mut core = core();
    core.granted(LeaseId(7), at(0), T);
    core.read(None, 10, at(1));
    core.won(LeaseId(7), 11, at(2));
    core.tick_of_controller(at(1000));
    core
}
/// The controller ticks from then to then, and the lease, if it is given, is renewed.
fn live(core: &mut Core, lease: Option<i64>, from: u64, to: u64) {
    for millis in (from..to).step_by(500).chain([to]) {
        if let Some(lease) = lease {
            core.renewed(LeaseId(lease), at(millis), T, at(millis));
        }
        core.tick_of_controller(at(millis));
    }
}

#[test]
fn authority_ends_the_margin_before_the_lease_can() {
    assert_eq!(margin(T), Duration::from_millis(1100));
    assert_eq!(authority_ends(at(1000), T), at(4900));
    assert_eq!(authority_ends(at(1000), Duration::from_secs(1)), at(1000), "a TTL within the margin gives none");
}

#[test]
fn a_leader_writes_until_its_time_and_never_resumes_the_term() {
    let mut core = leader();
    let authority = core.authority(at(2));
    assert_eq!(authority.standing, Standing::Leader { term: 11, until: at(3900) });
    assert!(authority.may_write(at(3899)) && !authority.may_write(at(3900)));
    assert_eq!(authority.fence("k", at(3899)).map(|f| f.len()), Some(2));
    assert_eq!(authority.fence("k", at(3900)), None);
    core.tick_of_controller(at(3500));
    // The answer comes after the end: the server's lease lives, the term is over.
    core.renewed(LeaseId(7), at(3800), T, at(4000));
    assert_eq!(core.authority(at(4000)).standing, Standing::None { term: 11 });
    assert_eq!(core.retired(), Some(LeaseId(7)));
    core.granted(LeaseId(8), at(4100), T);
    core.read(Some(&pair("a", 11, 7)), 12, at(4200));
    assert_eq!(core.authority(at(4200)).standing, Standing::Follower { leader: None, term: 11 });
}

#[test]
fn renewals_count_from_before_they_were_sent() {
    let mut core = leader();
    core.renewed(LeaseId(7), at(1000), T, at(1900));
    core.tick_of_controller(at(1950));
    assert_eq!(core.ends(), Some(at(4900)));
    core.renewed(LeaseId(7), at(500), T, at(2000));
    assert_eq!(core.ends(), Some(at(4900)), "a late answer to an earlier renewal takes nothing back");
    core.renewed(LeaseId(6), at(3000), T, at(3001));
    assert_eq!(core.ends(), Some(at(4900)), "another lease's answer counts for nothing");
    core.renewed(LeaseId(7), at(3000), Duration::ZERO, at(3001));
    assert_eq!(
        core.authority(at(3001)),
        Authority { standing: Standing::None { term: 11 }, lease: None, leader_url: None, generation: 1 }
    );
}

#[test]
fn losing_the_key_or_the_lease_ends_it_at_once() {
    for lose in [
        (|core| core.told(None, 12, at(100))) as fn(&mut Core),
        |core| core.told(Some(&pair("b", 13, 9)), 13, at(100)),
        |core| {
            core.read(None, 12, at(100));
        },
        |core| core.lost(LeaseId(7), at(100)),
        |core| core.step_down(11, at(100)),
        |core| assert!(core.hand_over("asked to", at(100))),
        |core| assert!(core.enter(2, at(100))),
    ] {
        let mut core = leader();
        lose(&mut core);
        assert!(!core.authority(at(100)).may_write(at(100)));
        assert!(core.generation() == 2 || core.authority(at(100)).term() >= 11);
    }
    let mut core = leader();
    core.lost(LeaseId(6), at(100));
    core.step_down(10, at(100));
    assert!(!core.enter(1, at(100)) && !core.enter(0, at(100)));
    core.told(None, 9, at(100));
    assert!(core.authority(at(100)).may_write(at(100)), "what is about another lease, term or time is not about us");
}

#[test]
fn a_win_whose_reply_was_lost_is_found_and_a_given_up_term_is_cleared_away() {
    let mut core = core();
    core.granted(LeaseId(7), at(0), T);
    core.read(Some(&pair("a", 11, 7)), 11, at(1));
    assert!(core.authority(at(1)).may_write(at(1)));
    core.step_down(11, at(1));
    core.read(Some(&pair("a", 11, 7)), 12, at(2));
    assert!(!core.authority(at(2)).may_write(at(2)));
    assert!(core.leftover(&pair("a", 11, 7)).is_some());
    assert!(core.leftover(&pair("b", 11, 9)).is_none());
}

#[test]
fn another_history_ends_everything_of_the_old_one() {
    let mut core = leader();
    core.step_down(11, at(50));
    assert!(core.held_down(at(60)).is_some());
    assert!(core.enter(2, at(100)));
    let authority = core.authority(at(100));
    assert_eq!((authority.standing, authority.generation), (Standing::None { term: 0 }, 2));
    assert_eq!((core.lease(), core.retired(), core.held_down(at(100))), (None, Some(LeaseId(7)), None));
    // The backup holds our leader key on our lease of then: it is no term of now, and is cleared away.
    core.read(Some(&pair("a", 5, 7)), 6, at(101));
    let authority = core.authority(at(101));
    assert!(!authority.may_write(at(101)) && authority.term() == 5);
    assert_eq!(core.leftover(&pair("a", 5, 7)).map(|f| f.len()), Some(2));
    core.granted(LeaseId(8), at(102), T);
    core.read(None, 7, at(103));
    assert_eq!(core.campaign(at(103)), Campaign::Yes, "nobody is held down for a restore");
    core.won(LeaseId(8), 8, at(104));
    assert_eq!(core.authority(at(105)).term(), 8, "a lower term than before: another generation");
}

#[test]
fn a_controller_that_stands_still_ends_authority_and_the_lease() {
    let mut core = leader();
    core.renewed(LeaseId(7), at(3000), T, at(3001));
    assert_eq!(core.ends(), Some(at(4000)), "3 s after the tick at 1 s, although the lease lasts until 6.9 s");
    let authority = core.authority(at(3001));
    assert!(authority.may_write(at(3999)) && !authority.may_write(at(4000)));
    // The first thing after the thaw is a tick: it comes too late for the term.
    core.tick_of_controller(at(9000));
    assert!(!core.authority(at(9000)).may_write(at(9000)));
    assert_eq!((core.retired(), &**core.reason()), (Some(LeaseId(7)), "the controller stood still for 3s"));
    assert!(!core.lapsed(at(9001)), "and a new lease may be asked for");
}

#[test]
fn nobody_campaigns_before_the_controller_ticks() {
    let mut core = Core::new("regions/eu/leader".to_owned(), node("a"), "http://a".to_owned(), T, 1);
    core.granted(LeaseId(7), at(0), T);
    core.read(None, 10, at(1));
    assert_eq!(core.authority(at(2)).standing, Standing::Follower { leader: None, term: 0 });
    assert_eq!((core.campaign(at(2)), core.lapsed(at(60_000))), (Campaign::No, false));
    core.tick_of_controller(at(3));
    assert_eq!(core.campaign(at(4)), Campaign::Yes);
}

#[test]
fn an_involuntary_loss_holds_down_for_t_but_a_lost_lease_does_not() {
    let mut core = leader();
    core.step_down(11, at(1000));
    core.read(None, 13, at(1001));
    assert_eq!(core.campaign(at(1002)), Campaign::IfAlone);
    live(&mut core, Some(7), 1500, 5999);
    assert_eq!(core.campaign(at(5999)), Campaign::IfAlone);
    assert_eq!(core.campaign(at(6000)), Campaign::Yes);
    // The key went, and then it shows that its lease had gone.
    let mut core = leader();
    core.told(None, 12, at(1000));
    assert_eq!(core.campaign(at(1000)), Campaign::IfAlone);
    core.lost(LeaseId(7), at(1001));
    core.granted(LeaseId(8), at(1002), T);
    assert_eq!((core.campaign(at(1003)), &**core.reason()), (Campaign::Yes, "the lease was lost"));
}

#[test]
fn who_hands_over_waits_for_twice_t_unless_nobody_takes_it_for_t() {
    let mut core = leader();
    assert!(core.hand_over("isolated", at(1000)));
    assert!(!core.hand_over("isolated", at(1001)), "there is nothing left to hand over");
    assert!(core.leftover(&pair("a", 11, 7)).is_some(), "the key is ours to delete");
    core.read(None, 12, at(1100));
    for (from, to, campaign) in [(1100, 2000, Campaign::No), (2000, 6099, Campaign::No), (6099, 6100, Campaign::Yes)] {
        live(&mut core, Some(7), from, to);
        assert_eq!(core.campaign(at(to)), campaign, "{to}");
    }
    // Another one takes it, and leaves it again: the 2 T still bind.
    core.told(Some(&pair("b", 13, 9)), 13, at(6200));
    core.told(None, 14, at(6300));
    assert_eq!((core.campaign(at(6400)), &**core.reason()), (Campaign::No, "node b leads no more"));
}

#[test]
fn reasons_and_transitions_tell_what_happened() {
    let mut core = core();
    assert_eq!(&**core.reason(), "the store has not answered yet");
    core.granted(LeaseId(7), at(0), T);
    core.read(None, 10, at(1));
    assert_eq!(&**core.reason(), "nobody leads yet");
    core.won(LeaseId(7), 11, at(2));
    assert_eq!((&**core.reason(), core.transitions()), ("won term 11", 0));
    live(&mut core, None, 0, 3500);
    core.tick(at(3900));
    assert_eq!(&**core.reason(), "authority ran out: no answer from the store for 3.9s");
    assert_eq!(core.leader(at(3900)), None);
    core.granted(LeaseId(8), at(4000), T);
    core.tick_of_controller(at(4000));
    core.read(Some(&pair("b", 13, 9)), 14, at(4001));
    assert_eq!((&**core.reason(), core.transitions()), ("node b took over in term 13", 1));
    live(&mut core, None, 5000, 7000);
    core.tick(at(7900));
    assert_eq!(&**core.reason(), "no answer from the store for 3.9s");
    core.tick_of_controller(at(8000));
    core.renewed(LeaseId(8), at(8000), T, at(8001));
    core.read(Some(&pair("b", 13, 9)), 20, at(8002));
    assert_eq!((&**core.reason(), core.transitions()), ("node b took over in term 13", 1), "nothing changed");
    core.told(None, 21, at(8003));
    assert_eq!(&**core.reason(), "node b leads no more");
    core.won(LeaseId(8), 22, at(8004));
    core.hand_over("most targets fail here alone", at(8005));
    assert_eq!((&**core.reason(), core.transitions()), ("handed over: most targets fail here alone", 2));
}

proptest! {
    /// Whatever happens, a leader's authority ends before the server can have ended its lease, and within the bound of its
    /// controller's last tick; its term is the highest seen, and none that was given up in this generation.
    #[test]
    fn authority_never_outlives_the_lease(steps in prop::collection::vec((0_u8..13, 0_u64..3000), 1..120)) {
        let (mut core, mut now, mut next, mut revision) = (core(), 0_u64, 1_i64, 1_i64);
        // The server counts from any time after the request was sent: here from the earliest.
        let (mut server_end, mut ticked) = (0_u64, 0_u64);
        let (mut given_up, mut led) = (0_i64, 0_i64);
        for (step, time) in steps {
            now += time / if step == 12 { 1 } else { 4 };
            revision += 1;
            let lease = core.lease();
            let generation = core.generation();
            match (step, lease) {
                (0 | 1, None) if !core.lapsed(at(now)) => {
                    core.granted(LeaseId(next), at(now), T);
                    (next, server_end) = (next + 1, now + 5000);
                }
                (1 | 2, Some(lease)) if now < server_end => {
                    server_end = now + 5000;
                    core.renewed(lease, at(now), T, at(now + time / 4));
                    now += time / 4;
                }
                (3 | 4, Some(lease)) => {
                    core.read(None, revision, at(now));
                    core.won(lease, revision, at(now));
                }
                (5, _) => core.told(Some(&pair("b", revision, 99)), revision, at(now)),
                (6, _) => core.told(None, revision, at(now)),
                (7, _) => core.step_down(core.authority(at(now)).term(), at(now)),
                (8, _) => { core.hand_over("asked to", at(now)); }
                (9, _) if time > 2500 => {
                    core.enter(generation + 1, at(now));
                    (revision, given_up, led) = (revision / 2, 0, 0);
                }
                (9..=11, _) => {
                    ticked = now;
                    core.tick_of_controller(at(now));
                }
                (_, Some(lease)) if time < 300 => core.lost(lease, at(now)),
                _ => core.tick(at(now)),
            }
            let authority = core.authority(at(now));
            prop_assert_eq!(authority.generation, core.generation());
            if let Standing::Leader { term, until } = authority.standing {
                prop_assert!(until <= at(server_end.saturating_sub(1000)));
                prop_assert!(until <= at(ticked + 3000));
                prop_assert!(term > given_up);
                if led != 0 && term != led {
                    given_up = led;
                }
                led = term;
                prop_assert!(term > given_up);
                prop_assert!(core.held_down(at(now)).is_none());
            } else if led != 0 {
                given_up = given_up.max(led);
                led = 0;
            }
        }
    }
}
