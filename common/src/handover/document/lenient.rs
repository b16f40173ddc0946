//! Lenient deserialization: a value of the wrong type reads as if it were missing.
//!
//! Only small values with possible parts are read by way of [`Value`], as there may be ten thousand
//! leases in a document.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{Error, MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::items::Items;

/// Reads a scalar, if it is of the right type.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Lenient::<Scalar<T>>::read(from)
}

/// Reads the scalars of a list that are of the right type.
pub(super) fn scalars<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Lenient::<List<Scalar<T>>>::read(from)
}

/// Reads a small value that may have parts.
pub(super) fn small<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Lenient::<Small<T>>::read(from)
}

/// Reads a list of small values that may have parts.
pub(super) fn smalls<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Lenient::<List<Small<T>>>::read(from)
}

/// Reads an object.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Lenient::<Object<T>>::read(from)
}

/// Reads the objects of a list.
pub(super) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Lenient::<List<Object<T>>>::read(from)
}

/// Reads the objects of a long list.
pub(super) fn items<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Items<'static, T>>, D::Error> {
    objects(from).map(|list| list.map(Items::Read))
}

/// Objects, by name or by position.
#[derive(Debug, Clone)]
pub enum Several<T> {
    /// By name.
    Named(BTreeMap<String, T>),
    /// By position.
    Listed(Vec<T>),
}

/// Reads objects, by name or by position.
pub(super) fn several<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Box<Several<T>>>, D::Error> {
    Ok(Lenient::<Several<T>>::read(from)?.map(Box::new))
}

/// Conversion of a value of each kind; a value of the wrong kind gives nothing.
trait Reading<'de>: Sized {
    type Output;

    fn scalar(_: impl IntoDeserializer<'de, Error>) -> Option<Self::Output> {
        None
    }

    fn list<A: SeqAccess<'de>>(mut items: A) -> Result<Option<Self::Output>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn map<A: MapAccess<'de>>(mut entries: A) -> Result<Option<Self::Output>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

struct Scalar<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Reading<'de> for Scalar<T> {
    type Output = T;

    fn scalar(value: impl IntoDeserializer<'de, Error>) -> Option<T> {
        T::deserialize(value.into_deserializer()).ok()
    }
}

struct Small<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Reading<'de> for Small<T> {
    type Output = T;

    fn scalar(value: impl IntoDeserializer<'de, Error>) -> Option<T> {
        T::deserialize(value.into_deserializer()).ok()
    }

    fn list<A: SeqAccess<'de>>(items: A) -> Result<Option<T>, A::Error> {
        let value = Value::deserialize(SeqAccessDeserializer::new(items))?;
        Ok(T::deserialize(value).ok())
    }

    fn map<A: MapAccess<'de>>(entries: A) -> Result<Option<T>, A::Error> {
        let value = Value::deserialize(MapAccessDeserializer::new(entries))?;
        Ok(T::deserialize(value).ok())
    }
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Reading<'de> for Object<T> {
    type Output = T;

    fn map<A: MapAccess<'de>>(entries: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(entries)).map(Some)
    }
}

struct List<R>(PhantomData<R>);

impl<'de, R: Reading<'de>> Reading<'de> for List<R> {
    type Output = Vec<R::Output>;

    fn list<A: SeqAccess<'de>>(mut items: A) -> Result<Option<Self::Output>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Lenient(PhantomData::<R>))? {
            if let Some(item) = item {
                // Most lists have one item or thousands.
                list.reserve_exact(usize::from(list.is_empty()));
                list.push(item);
            }
        }
        Ok(Some(list))
    }
}

impl<'de, T: Deserialize<'de>> Reading<'de> for Several<T> {
    type Output = Self;

    fn list<A: SeqAccess<'de>>(items: A) -> Result<Option<Self>, A::Error> {
        Ok(List::<Object<T>>::list(items)?.map(Self::Listed))
    }

    fn map<A: MapAccess<'de>>(mut entries: A) -> Result<Option<Self>, A::Error> {
        let mut objects = BTreeMap::new();
        while let Some(name) = entries.next_key()? {
            let object = entries.next_value_seed(Lenient(PhantomData::<Object<T>>))?;
            objects.extend(object.map(|object| (name, object)));
        }
        Ok(Some(Self::Named(objects)))
    }
}

struct Lenient<R>(PhantomData<R>);

impl<R> Lenient<R> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<R::Output>, D::Error>
    where
        R: Reading<'de>,
    {
        from.deserialize_any(Self(PhantomData))
    }
}

impl<'de, R: Reading<'de>> DeserializeSeed<'de> for Lenient<R> {
    type Value = Option<R::Output>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        Self::read(from)
    }
}

impl<'de, R: Reading<'de>> Visitor<'de> for Lenient<R> {
    type Value = Option<R::Output>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        R::map(entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        R::list(items)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(R::scalar(()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(R::scalar(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(R::scalar(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(R::scalar(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(R::scalar(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(R::scalar(value))
    }
}
