//! Repeated numbers, which go into one field, and the kinds of numbers that no span has.

use super::{encode::Encoder, *};
use crate::otlp::schema::{many, member, one, packed};

static INNER: Table = Table::new(&[packed(1, "doubles", Kind::Double), packed(6, "int32s", Kind::Int32)]);

static NUMBERS: Table = Table::new(&[
    packed(1, "doubles", Kind::Double),
    packed(2, "fixed64s", Kind::Fixed64),
    packed(3, "sfixed64s", Kind::Sfixed64),
    packed(4, "uint64s", Kind::Uint64),
    packed(5, "int64s", Kind::Int64),
    packed(6, "int32s", Kind::Int32),
    packed(7, "sint32s", Kind::Sint32),
    packed(8, "uint32Values", Kind::Uint32),
    many(9, "inner", Kind::Message(&INNER)),
    one(10, "sfixed64", Kind::Sfixed64),
    one(11, "uint64", Kind::Uint64),
    one(12, "int32", Kind::Int32),
    member(13, "sint32", Kind::Sint32),
]);

#[derive(Clone, PartialEq, prost::Message)]
struct Numbers {
    #[prost(double, repeated, tag = "1")]
    doubles: Vec<f64>,
    #[prost(fixed64, repeated, tag = "2")]
    fixed64s: Vec<u64>,
    #[prost(sfixed64, repeated, tag = "3")]
    sfixed64s: Vec<i64>,
    #[prost(uint64, repeated, tag = "4")]
    uint64s: Vec<u64>,
    #[prost(int64, repeated, tag = "5")]
    int64s: Vec<i64>,
    #[prost(int32, repeated, tag = "6")]
    int32s: Vec<i32>,
    #[prost(sint32, repeated, tag = "7")]
    sint32s: Vec<i32>,
    #[prost(uint32, repeated, tag = "8")]
    uint32_values: Vec<u32>,
    #[prost(message, repeated, tag = "9")]
    inner: Vec<Numbers>,
    #[prost(sfixed64, tag = "10")]
    sfixed64: i64,
    #[prost(uint64, tag = "11")]
    uint64: u64,
    #[prost(int32, tag = "12")]
    int32: i32,
    #[prost(sint32, optional, tag = "13")]
    sint32: Option<i32>,
}

fn bytes(json: &str) -> Result<Vec<u8>, String> {
    decode(&NUMBERS, json).map_err(|fault| fault.to_string())
}

/// Scenario: arrays of each kind of number: bare, in strings, defaults, the ends of each range.
/// Guarantees: each is one field with all its elements in order, byte for byte as prost has it.
#[test]
fn arrays_are_one_field() {
    let json = r#"{"doubles":[0, -0.0,1.5,"2.5","NaN","-Infinity",1e300], "fixed64s":["0","1",18446744073709551615],
        "sfixed64s":["-9223372036854775808",0,"9223372036854775807"], "uint64s":["18446744073709551615",0,300],
        "int64s":[-1,"9223372036854775807"], "int32s":[0,-1,2147483647,-2147483648,"5"],
        "sint32s":[0,-1,1,2147483647,-2147483648], "uint32_values":[4294967295,"0",1.0,1e3],
        "inner":[{},{"doubles":[3]}], "sfixed64":"-2","uint64":"18446744073709551615","int32":-3,"sint32":0}"#;
    let numbers = Numbers {
        doubles: vec![0.0, -0.0, 1.5, 2.5, f64::NAN, f64::NEG_INFINITY, 1e300],
        fixed64s: vec![0, 1, u64::MAX],
        sfixed64s: vec![i64::MIN, 0, i64::MAX],
        uint64s: vec![u64::MAX, 0, 300],
        int64s: vec![-1, i64::MAX],
        int32s: vec![0, -1, i32::MAX, i32::MIN, 5],
        sint32s: vec![0, -1, 1, i32::MAX, i32::MIN],
        uint32_values: vec![u32::MAX, 0, 1, 1000],
        inner: vec![Numbers::default(), Numbers { doubles: vec![3.0], ..Numbers::default() }],
        sfixed64: -2,
        uint64: u64::MAX,
        int32: -3,
        sint32: Some(0),
    };
    assert_eq!(bytes(json).unwrap(), numbers.encode_to_vec());
    for nothing in
        ["{}", r#"{"doubles":[ ],"int32s":null,"sint32s":[]}"#, r#"{"int32":0,"uint64":"0","sfixed64":0.0}"#]
    {
        assert_eq!(bytes(nothing).unwrap(), [0_u8; 0], "{nothing}");
    }
}

/// Scenario: elements that the field cannot hold, and fields that are no arrays.
/// Guarantees: refused, with the element that it is about; nothing is rounded, cut or left out.
#[test]
fn misfits_are_refused() {
    for (json, why) in [
        (r#"{"uint64s":[1,2,-1]}"#, "uint64s[2]: expected an integer within"),
        (r#"{"uint64s":["18446744073709551616"]}"#, "uint64s[0]: expected an integer within"),
        (r#"{"int32s":[2147483648]}"#, "int32s[0]: expected an integer within"),
        (r#"{"sint32s":["-2147483649"]}"#, "sint32s[0]: expected an integer within"),
        (r#"{"sfixed64s":[9223372036854775808]}"#, "sfixed64s[0]: expected an integer within"),
        (r#"{"fixed64s":[0.5]}"#, "fixed64s[0]: expected an integer within"),
        (r#"{"uint32Values":[0,null]}"#, "uint32Values[1]: expected an integer within"),
        (r#"{"doubles":[1,null]}"#, "doubles[1]: expected a number within"),
        (r#"{"doubles":[[1]]}"#, "doubles[0]: expected a number within"),
        (r#"{"doubles":[1e309]}"#, "doubles[0]: expected a number within"),
        (r#"{"doubles":[1,]}"#, "doubles[1]: expected a JSON value"),
        (r#"{"doubles":[1 2]}"#, "doubles: expected a comma"),
        (r#"{"doubles":1}"#, "doubles: expected an array"),
        (r#"{"doubles":"1"}"#, "doubles: expected an array"),
        (r#"{"doubles":{}}"#, "doubles: expected an array"),
        (r#"{"doubles":[1"#, "doubles: expected a comma"),
        (r#"{"doubles":[],"doubles":[1]}"#, "doubles: given twice"),
        (r#"{"uint32Values":[1],"uint32_values":[1]}"#, "uint32Values: given twice"),
        (r#"{"int32":2147483648}"#, "int32: expected an integer within"),
    ] {
        let error = bytes(json).unwrap_err();
        assert!(error.starts_with(why), "{json}: {error}");
    }
}

/// Scenario: arrays whose length takes one byte up to four, the longest of them of nothing but zeros.
/// Guarantees: every length is right; the output is at most four times the document, and the buffer
/// that it grew in never more than that.
#[test]
fn long_arrays() {
    for len in [15, 16, 2_047, 2_048, 262_143, 262_144] {
        let zeros = vec!["0"; len].join(",");
        let json = format!(r#"{{"fixed64s":[{zeros}],"inner":[{{"doubles":[{zeros}]}}]}}"#);
        let numbers = Numbers { doubles: vec![0.0; len], ..Numbers::default() };
        let numbers = Numbers { fixed64s: vec![0; len], inner: vec![numbers], ..Numbers::default() };
        let bytes = bytes(&json).unwrap();
        assert_eq!(bytes, numbers.encode_to_vec(), "{len}");
        assert!(bytes.len() <= json.len() * 4 && bytes.capacity() <= json.len() * 4, "{len}");
    }
    assert_eq!(Encoder::for_input(1 << 10).finish().capacity(), 1 << 10);
}
