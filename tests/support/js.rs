//! Values as JavaScript keeps them: objects remember the order of their keys, so that comparing JSON texts means what it
//! means to the tutorial.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;

/// What `JSON.parse` gives. Unlike in JavaScript, a lone surrogate is no JSON.
#[derive(Clone, PartialEq, Debug)]
pub enum Js {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number; whole ones are kept as integers.
    Number(Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Js>),
    /// An object, in the order of its keys.
    Object(Vec<(String, Js)>),
}

impl Js {
    /// `JSON.parse(text)`
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// `JSON.stringify(this)`
    pub fn stringify(&self) -> String {
        serde_json::to_string(self).expect("keys are strings")
    }

    /// `this[key]`, where `undefined` is `None`; of `null` too, which a caller must ask for before.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a number that is an index or a time.
    pub fn integer(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// The value of any number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    /// `String(this)`
    pub fn to_js_string(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::String(text) => text.clone(),
            Self::Array(elements) => {
                let each = |element: &Self| if *element == Self::Null { String::new() } else { element.to_js_string() };
                elements.iter().map(each).collect::<Vec<_>>().join(",")
            }
            Self::Object(_) => "[object Object]".to_owned(),
        }
    }
}

impl From<&str> for Js {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<u64> for Js {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl Serialize for Js {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(elements) => {
                let mut array = serializer.serialize_seq(Some(elements.len()))?;
                elements.iter().try_for_each(|element| array.serialize_element(element))?;
                array.end()
            }
            Self::Object(fields) => {
                let mut object = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(key, value)| object.serialize_entry(key, value))?;
                object.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Js {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsVisitor)
    }
}

struct JsVisitor;

impl<'de> Visitor<'de> for JsVisitor {
    type Value = Js;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Js, E> {
        Ok(Js::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Js, E> {
        Ok(Js::Bool(value))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Js, E> {
        Ok(Js::Number(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Js, E> {
        Ok(Js::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Js, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() < EXACT {
            // Exact: a whole number below 2^53.
            return Ok(Js::Number((number as i64).into()));
        }
        Number::from_f64(number).map(Js::Number).ok_or_else(|| E::custom("a number beyond all bounds"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Js, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Js, E> {
        Ok(Js::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Js, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Js::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Js, A::Error> {
        let mut fields: Vec<(String, Js)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Js>()? {
            // A doubled key keeps its first place and takes the last value.
            match fields.iter_mut().find(|(name, _)| *name == key) {
                Some((_, old)) => *old = value,
                None => fields.push((key, value)),
            }
        }
        Ok(Js::Object(fields))
    }
}
