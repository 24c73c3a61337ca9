//! Service names in every form that a request can give them.

use super::*;
use crate::otlp::{
    inspect::{Depth, Rules, inspect},
    testkit::{attribute, int, len, long_varint, request, span, varint},
};

const RAILS: &str = "gitlab-ci-rails";
const ROUTER: &str = "gitlab-ci-job-router";

/// Whether the inspection accepts a request, and it is allowed to name itself as it does.
fn allowed(signal: Signal, body: &[u8]) -> bool {
    let rules =
        Rules { trace_id: None, max_item_size: usize::MAX, refuse_unknown: false, depth: Depth::Full };
    inspect(signal, body, &rules).is_ok()
        && all_allowed(signal, body, &ServiceNames::new([RAILS, ROUTER])).unwrap()
}

/// Spans under resources that each have these attributes.
fn traces(resources: &[&[Vec<u8>]]) -> Vec<u8> {
    let entry = |attributes: &&[Vec<u8>]| {
        let resource: Vec<u8> = attributes.iter().flat_map(|content| len(1, content)).collect();
        request([len(1, resource), len(2, len(2, span("")))].concat())
    };
    resources.iter().flat_map(entry).collect()
}

fn host() -> Vec<u8> {
    attribute("host.name", "vm")
}

fn named(name: &str) -> Vec<u8> {
    attribute(SERVICE_NAME, name)
}

/// Scenario: allowed names once, twice, among other attributes, in two resources, over two occurrences of `resource`; and no resource at all.
/// Guarantees: all are allowed.
#[test]
fn allowed_names_pass() {
    for body in [
        traces(&[&[named(RAILS)]]),
        traces(&[&[host(), named(ROUTER), host()], &[named(RAILS)]]),
        traces(&[&[named(RAILS), named(ROUTER)]]),
        traces(&[&[attribute("service_name", RAILS), named(RAILS)]]),
        traces(&[&[attribute("service.names", "x"), attribute("xservice.name", "x"), named(RAILS)]]),
        request([len(1, len(1, host())), len(2, ""), len(1, len(1, named(RAILS)))].concat()),
        Vec::new(),
    ] {
        assert!(allowed(Signal::Traces, &body), "{body:?}");
    }
}

/// Scenario: no name, another name, a part of one, more than one, one that only looks like it, of every kind of value.
/// Guarantees: none is allowed, be it the only one or beside an allowed one.
#[test]
fn other_names_do_not() {
    let with = |value: Vec<u8>| [len(1, SERVICE_NAME), len(2, value)].concat();
    for wrong in [
        named(""),
        named("gitlab-ci-runner"),
        named("gitlab-ci-rail"),
        named("gitlab-ci-rails "),
        named("GitLab-CI-Rails"),
        attribute("service_name", "gitlab-ci-runner"),
        attribute("Service-Name", ""),
        len(1, SERVICE_NAME),
        with(Vec::new()),
        with(int(2, 1)),
        with(int(3, 7)),
        with(len(7, RAILS)),
        with(len(5, len(1, len(1, RAILS)))),
        with(len(6, len(1, named(RAILS)))),
        with(int(8, 1)),
        with([len(1, RAILS), len(9, "new")].concat()),
        [len(1, SERVICE_NAME), len(2, len(1, RAILS)), len(2, "")].concat(),
        [len(1, SERVICE_NAME), len(2, len(1, RAILS)), len(2, len(1, "else"))].concat(),
        [len(1, SERVICE_NAME), len(2, len(1, "else")), len(2, len(1, RAILS))].concat(),
        with([len(1, "else"), len(1, RAILS)].concat()),
        with([len(1, RAILS), int(3, 1)].concat()),
        // The last key counts, and a place in a dictionary that is not there could be any key.
        [len(1, "host.name"), len(2, len(1, "else")), len(1, SERVICE_NAME)].concat(),
        [len(1, "host.name"), len(2, len(1, RAILS)), int(3, 1)].concat(),
        [named(RAILS), int(3, 1)].concat(),
    ] {
        for body in [
            traces(&[std::slice::from_ref(&wrong)]),
            traces(&[&[named(RAILS), wrong.clone()]]),
            traces(&[&[wrong.clone(), named(RAILS)]]),
            traces(&[&[named(RAILS)], &[host(), wrong.clone()]]),
            request([len(1, len(1, named(RAILS))), len(1, len(1, &wrong))].concat()),
        ] {
            assert!(!allowed(Signal::Traces, &body), "{wrong:?} {body:?}");
        }
    }
}

/// Scenario: resources without a name beside one that has one; an empty resource; none; only a look-alike.
/// Guarantees: each `ResourceX` needs a name of its own, under the one key.
#[test]
fn every_resource_needs_a_name() {
    for body in [
        traces(&[&[]]),
        traces(&[&[named(RAILS)], &[host()]]),
        traces(&[&[host()], &[named(RAILS)]]),
        traces(&[&[attribute("service_name", RAILS)]]),
        traces(&[&[[named(RAILS), len(1, "host.name")].concat()]]),
        request(len(2, len(2, span("")))),
        request(""),
    ] {
        assert!(!allowed(Signal::Traces, &body), "{body:?}");
    }
}

/// Scenario: tags and lengths in more bytes than they need; metrics and logs.
/// Guarantees: the spelling of the wire hides nothing, in any signal.
#[test]
fn long_spellings_hide_nothing() {
    let long = |number: u64, content: &[u8]| {
        [long_varint(number << 3 | 2, 5), long_varint(content.len() as u64, 4), content.to_vec()].concat()
    };
    let body = |name: &str| {
        let value = long(1, name.as_bytes());
        let attribute = [long(2, &value), long(1, SERVICE_NAME.as_bytes())].concat();
        long(1, &long(1, &long(1, &attribute)))
    };
    for signal in [Signal::Traces, Signal::Metrics, Signal::Logs, Signal::Profiles] {
        assert!(allowed(signal, &body(RAILS)));
        assert!(!allowed(signal, &body("else")));
    }
}

/// A profile's request: one resource of one attribute, and two dictionaries that are one.
fn profiles(attribute: &[u8]) -> Vec<u8> {
    let strings = |all: &[&str]| len(2, all.iter().flat_map(|text| len(5, text)).collect::<Vec<u8>>());
    [
        strings(&["", SERVICE_NAME, RAILS]),
        len(1, len(1, len(1, attribute))),
        strings(&["else", "service_name", "host.name"]),
    ]
    .concat()
}

/// Scenario: keys and values by their place in a profile's dictionary, good ones, other ones, ones that do not exist.
/// Guarantees: a place is what stands there; what stands nowhere, or is not the same in words, is not allowed.
#[test]
fn places_are_resolved() {
    let (key, value) = (|place| int(3, place), |place| len(2, int(8, place)));
    let text = |text: &str| len(2, len(1, text));
    for (attribute, good) in [
        ([key(1), value(2)].concat(), true),
        ([key(1), text(RAILS)].concat(), true),
        ([len(1, SERVICE_NAME), value(2)].concat(), true),
        ([len(1, SERVICE_NAME), key(1), value(2)].concat(), false),
        ([len(1, SERVICE_NAME), key(0), value(2)].concat(), true),
        ([key(1 << 32 | 1), value(1 << 32 | 2)].concat(), true),
        ([key(5), key(1), value(2)].concat(), true),
        ([key(1), value(3)].concat(), false),
        ([key(1), value(0)].concat(), false),
        ([key(1), value(6)].concat(), false),
        ([key(1), value(u64::MAX)].concat(), false),
        ([key(1), text("else")].concat(), false),
        ([key(1), key(5), value(2)].concat(), false),
        ([key(4), value(2)].concat(), false),
        ([key(5), value(2)].concat(), false),
        ([key(6), value(2)].concat(), false),
        ([key(u64::MAX), value(2)].concat(), false),
        ([len(1, "host.name"), key(1), value(2)].concat(), false),
        ([len(1, SERVICE_NAME), key(5), value(2)].concat(), false),
        ([len(1, "service_name"), key(1), value(2)].concat(), false),
    ] {
        assert_eq!(allowed(Signal::Profiles, &profiles(&attribute)), good, "{attribute:?}");
    }
    let two = |second: Vec<u8>| {
        let resource = [len(1, named(RAILS)), len(1, second)].concat();
        [profiles(&named(RAILS)), len(1, len(1, resource))].concat()
    };
    assert!(allowed(Signal::Profiles, &two([key(5), value(3)].concat())));
    assert!(!allowed(Signal::Profiles, &two([key(4), value(3)].concat())));
    assert!(!allowed(Signal::Profiles, &two([len(1, "host.name"), key(1), value(3)].concat())));
    assert!(!allowed(Signal::Profiles, &two([len(1, "host.name"), key(9), value(2)].concat())));
}

/// Scenario: a body that nobody inspected and that breaks off.
/// Guarantees: it is malformed, not allowed.
#[test]
fn what_breaks_is_malformed() {
    let body = traces(&[&[named(RAILS)]]);
    let names = ServiceNames::new([RAILS]);
    let cut = [body.as_slice(), &varint(1 << 3 | 2), &[5]].concat();
    assert!(all_allowed(Signal::Traces, &cut, &names).is_err());
}
