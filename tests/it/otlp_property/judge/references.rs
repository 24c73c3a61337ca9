//! Whether the attributes of resources and scopes can be read with the dictionary at hand, in terms of
//! prost's types.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use spangate::otlp::signal::Signal;

use super::signals::{Entry, Export, Scopes};

/// How many strings there are to look up.
struct Strings(usize);

/// Whether a profile's resource or scope names a string that there is not, or a key in two ways. The
/// key of a resource's own attribute may be missing, for the attribute goes.
pub(super) fn dangle<R: Export>(request: &mut R, signal: Signal) -> bool {
    if signal != Signal::Profiles {
        return false;
    }
    let strings = Strings(request.dictionary().map_or(0, |dictionary| dictionary.string_table.len()));
    request.entries().iter_mut().any(|entry| {
        let resource = entry.resource().take();
        let own = resource.iter().flat_map(|resource| &resource.attributes);
        let dangles = own.clone().any(|own| twice(own) || strings.lack_value(own.value.as_ref()));
        *entry.resource() = resource;
        dangles
            || entry.scopes().iter_mut().any(|scopes| {
                let scope = scopes.scope().iter();
                scope.flat_map(|scope| &scope.attributes).any(|attribute| strings.lack(attribute))
            })
    })
}

fn twice(attribute: &KeyValue) -> bool {
    !attribute.key.is_empty() && attribute.key_strindex != 0
}

impl Strings {
    fn have(&self, place: i32) -> bool {
        usize::try_from(place).is_ok_and(|place| place < self.0)
    }

    fn lack(&self, attribute: &KeyValue) -> bool {
        let place = attribute.key_strindex;
        twice(attribute) || (place != 0 && !self.have(place)) || self.lack_value(attribute.value.as_ref())
    }

    fn lack_value(&self, value: Option<&AnyValue>) -> bool {
        match value.and_then(|value| value.value.as_ref()) {
            Some(Value::StringValueStrindex(place)) => !self.have(*place),
            Some(Value::ArrayValue(array)) => array.values.iter().any(|value| self.lack_value(Some(value))),
            Some(Value::KvlistValue(list)) => list.values.iter().any(|attribute| self.lack(attribute)),
            _ => false,
        }
    }
}
