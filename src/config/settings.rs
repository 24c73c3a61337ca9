//! The one place where a key, its meaning and its default meet: a macro that makes the struct, its
//! `Default` and a table of its keys from the same lines. It decides the form of a section, never a value.

/// One key of a section, for the generated references.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key as it is written in the file.
    pub name: &'static str,
    /// The lines of its doc comment.
    pub doc: &'static [&'static str],
    /// The section below it, or below each element of its list.
    pub inner: Option<Section>,
}

/// A section that stands below a key.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its keys, in the order of the file.
    pub keys: &'static [Key],
    /// Its defaults, for a section that is absent by default.
    pub default: fn() -> serde_json::Value,
}

/// A section of the configuration that can tell its keys.
pub trait Settings {
    /// Its keys, in the order of the file.
    const KEYS: &'static [Key];
}

/// A key that is a word of Rust's own is written `r#type`.
pub(crate) const fn bare(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', bare @ ..] => match std::str::from_utf8(bare) {
            Ok(bare) => bare,
            Err(_) => name,
        },
        _ => name,
    }
}

/// Makes a section: `/// meaning` above `key: Type = default`, then `, as "units::x"` for a
/// spelling of its own and `, holds Section` for a key with keys below.
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        pub struct $name:ident {$(
            $(#[doc = $doc:literal])+
            $key:ident: $kind:ty = $default:expr $(, as $with:literal)? $(, holds $inner:ty)?;
        )+}
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default, deny_unknown_fields)]
        #[allow(
            clippy::struct_field_names,
            reason = "keys are named for the file's readers; only some sections need this, so `expect` can't stand here"
        )]
        pub struct $name {$(
            $(#[doc = $doc])+
            $(#[serde(with = $with)])?
            pub $key: $kind,
        )+}

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $crate::config::settings::Settings for $name {
            const KEYS: &'static [$crate::config::settings::Key] = &[$(
                $crate::config::settings::Key {
                    name: $crate::config::settings::bare(stringify!($key)),
                    doc: &[$($doc),+],
                    inner: $crate::config::settings::settings!(@section $($inner)?),
                },
            )+];
        }
    )+};
    (@section) => { None };
    (@section $inner:ty) => {
        Some($crate::config::settings::Section {
            keys: <$inner as $crate::config::settings::Settings>::KEYS,
            default: || serde_json::to_value(<$inner>::default()).unwrap_or_default(),
        })
    };
}

pub(crate) use settings;
