//! Requests of the profiles signal: a dictionary before, after and on both sides of what points into
//! it, and indices that point at protected keys, at others and at nothing.

use opentelemetry_proto::tonic::{
    collector::profiles::v1development::ExportProfilesServiceRequest,
    profiles::v1development::{
        Function, KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary,
        ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::Message;

use super::{entries, index, key, span_id, text, trace_id, value};

fn indices() -> impl Strategy<Value = Vec<i32>> {
    vec(index(), 0..4)
}

fn value_type() -> impl Strategy<Value = Option<ValueType>> {
    option::of((index(), index())).prop_map(|indices| {
        indices.map(|(type_strindex, unit_strindex)| ValueType { type_strindex, unit_strindex })
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    (index(), indices(), index(), vec(any::<i64>(), 0..3), vec(any::<u64>(), 0..3)).prop_map(
        |(stack_index, attribute_indices, link_index, values, timestamps_unix_nano)| Sample {
            stack_index,
            attribute_indices,
            link_index,
            values,
            timestamps_unix_nano,
        },
    )
}

fn profile() -> impl Strategy<Value = Profile> {
    let id = select(vec![vec![7; 16], vec![]]);
    let payload = (text(), vec(any::<u8>(), 0..20));
    (value_type(), vec(sample(), 0..3), any::<u64>(), value_type(), (id, any::<u32>()), payload, indices())
        .prop_map(|(sample_type, samples, time, period_type, (profile_id, number), payload, indices)| {
            Profile {
                sample_type,
                samples,
                time_unix_nano: time,
                duration_nano: time,
                period_type,
                period: time.cast_signed(),
                profile_id,
                dropped_attributes_count: number,
                original_payload_format: payload.0,
                original_payload: payload.1,
                attribute_indices: indices,
            }
        })
}

fn mapping() -> impl Strategy<Value = Mapping> {
    (any::<u64>(), index(), indices()).prop_map(|(memory, filename_strindex, attribute_indices)| Mapping {
        memory_start: memory,
        memory_limit: memory,
        file_offset: memory,
        filename_strindex,
        attribute_indices,
    })
}

fn location() -> impl Strategy<Value = Location> {
    let line = (index(), any::<(i64, i64)>()).prop_map(|(function_index, (line, column))| Line {
        function_index,
        line,
        column,
    });
    (index(), any::<u64>(), vec(line, 0..3), indices()).prop_map(
        |(mapping_index, address, lines, attribute_indices)| Location {
            mapping_index,
            address,
            lines,
            attribute_indices,
        },
    )
}

fn function() -> impl Strategy<Value = Function> {
    (index(), index(), index(), any::<i64>()).prop_map(
        |(name_strindex, system_name_strindex, filename_strindex, start_line)| Function {
            name_strindex,
            system_name_strindex,
            filename_strindex,
            start_line,
        },
    )
}

/// All that profiles point into: mostly as the protocol wants it, with its zero entries first.
fn dictionary() -> impl Strategy<Value = ProfilesDictionary> {
    let attribute =
        (index(), option::of(value()), index()).prop_map(|(key_strindex, value, unit_strindex)| {
            KeyValueAndUnit { key_strindex, value, unit_strindex }
        });
    let link = (trace_id(), span_id()).prop_map(|(trace_id, span_id)| Link { trace_id, span_id });
    let stack = indices().prop_map(|location_indices| Stack { location_indices });
    let code = (vec(mapping(), 0..3), vec(location(), 0..3), vec(function(), 0..3), vec(stack, 0..3));
    (code, vec(link, 0..3), vec(key(), 2..10), vec(attribute, 0..6), prop::bool::weighted(0.8)).prop_map(
        |(code, links, strings, attributes, zeros)| {
            // Without this one, where there are strings at all, it is refused.
            let mut dictionary =
                ProfilesDictionary { string_table: vec![String::new()], ..ProfilesDictionary::default() };
            if zeros {
                dictionary.mapping_table.push(Mapping::default());
                dictionary.location_table.push(Location::default());
                dictionary.function_table.push(Function::default());
                dictionary.link_table.push(Link::default());
                dictionary.attribute_table.push(KeyValueAndUnit::default());
                dictionary.stack_table.push(Stack::default());
            }
            dictionary.mapping_table.extend(code.0);
            dictionary.location_table.extend(code.1);
            dictionary.function_table.extend(code.2);
            dictionary.stack_table.extend(code.3);
            dictionary.link_table.extend(links);
            dictionary.string_table.extend(strings);
            dictionary.attribute_table.extend(attributes);
            dictionary
        },
    )
}

pub(super) fn body() -> impl Strategy<Value = Vec<u8>> {
    let entries = entries(
        profile(),
        |scope, profiles, schema_url| ScopeProfiles { scope, profiles, schema_url },
        |resource, scope_profiles, schema_url| ResourceProfiles { resource, scope_profiles, schema_url },
    );
    let alone = |dictionary: Option<ProfilesDictionary>| {
        ExportProfilesServiceRequest { resource_profiles: Vec::new(), dictionary }.encode_to_vec()
    };
    (entries, option::weighted(0.9, dictionary()), 0..4_u8).prop_map(
        move |(resource_profiles, mut dictionary, place)| {
            // Concatenated encodings merge when they are read.
            match place {
                0 => {
                    let profiles = ExportProfilesServiceRequest { resource_profiles, dictionary: None };
                    [alone(dictionary), profiles.encode_to_vec()].concat()
                }
                1 => {
                    let first = dictionary.as_mut().map(|whole| ProfilesDictionary {
                        string_table: whole.string_table.drain(..whole.string_table.len() / 2).collect(),
                        link_table: std::mem::take(&mut whole.link_table),
                        ..ProfilesDictionary::default()
                    });
                    let rest = ExportProfilesServiceRequest { resource_profiles, dictionary };
                    [alone(first), rest.encode_to_vec()].concat()
                }
                _ => ExportProfilesServiceRequest { resource_profiles, dictionary }.encode_to_vec(),
            }
        },
    )
}
