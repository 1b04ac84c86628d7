//! Answers as JSON, by reflection over the contract, so that no field is ever forgotten.
//!
//! Names are those of the `.proto` files. Unset messages, unset optional fields and enum values that say "not told" are
//! `null`; enum values are lower case without their prefix; moments are RFC 3339 in UTC; 64-bit numbers are numbers.

use std::sync::OnceLock;

use prost_reflect::prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage,
};
use serde_json::{Map, Value};
use swift_s3_proto::{FILE_DESCRIPTOR_SET, v1};

use super::failure::Failure;
use super::units::moment;

/// A message that knows its name in the contract.
pub trait Named: Message {
    /// Without the package.
    const NAME: &'static str;
}

macro_rules! named {
    ($($message:ident),* $(,)?) => {
        $(impl Named for v1::$message {
            const NAME: &'static str = stringify!($message);
        })*
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($message)),*];
    };
}

named!(
    Activity,
    Change,
    ClusterStatus,
    ContainerStatus,
    CursorStatus,
    Difference,
    ExplainObjectResponse,
    FailureCount,
    FailureStatus,
    MappingStatus,
    NodeStatus,
    PauseMappingResponse,
    Problem,
    RepairResult,
    ReleaseDeletesResponse,
    ResumeMappingResponse,
    RetryFailuresResponse,
    Revision,
    StatusUpdate,
    Takeover,
    ValidateConfigResponse,
);

fn descriptor(name: &str) -> Option<MessageDescriptor> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());
    pool.as_ref()?.get_message_by_name(&format!("swift_s3_sync.v1.{name}"))
}

/// A message as JSON.
///
/// # Errors
/// If this program was built with a contract that lacks the message.
pub fn value<M: Named>(message: &M) -> Result<Value, Failure> {
    let wrong = || Failure::failed(format!("this program was built wrongly: its contract lacks {}", M::NAME));
    let descriptor = descriptor(M::NAME).ok_or_else(wrong)?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|_| wrong())?;
    Ok(message_value(&dynamic))
}

/// Messages as a JSON array.
///
/// # Errors
/// As [`value`].
pub fn values<M: Named>(messages: &[M]) -> Result<Value, Failure> {
    messages.iter().map(value).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

/// The text of a JSON value inside a message, as that value; `null` for none.
fn embedded(text: &str) -> Value {
    match text {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

fn message_value(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    if descriptor.full_name() == "google.protobuf.Timestamp" {
        let stamp = message.transcode_to::<prost_types::Timestamp>().ok();
        return stamp
            .and_then(|stamp| moment(&stamp))
            .map_or(Value::Null, |moment| moment.to_string().into());
    }
    let fields = descriptor.fields().map(|field| {
        let value = if field.supports_presence() && !message.has_field(&field) {
            Value::Null
        } else {
            field_value(&field, &message.get_field(&field))
        };
        (field.name().to_owned(), value)
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

fn field_value(field: &FieldDescriptor, value: &prost_reflect::Value) -> Value {
    match (field.full_name(), value) {
        (
            "swift_s3_sync.v1.Change.before" | "swift_s3_sync.v1.Change.after",
            prost_reflect::Value::String(text),
        ) => embedded(text),
        ("swift_s3_sync.v1.ParkedRow.next_try", prost_reflect::Value::U64(seconds)) => {
            i64::try_from(*seconds)
                .ok()
                .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
                .map_or(Value::Null, |moment| moment.to_string().into())
        }
        _ => plain_value(field, value),
    }
}

fn plain_value(field: &FieldDescriptor, value: &prost_reflect::Value) -> Value {
    use prost_reflect::Value as Proto;
    match value {
        Proto::Bool(yes) => (*yes).into(),
        Proto::I32(number) => (*number).into(),
        Proto::I64(number) => (*number).into(),
        Proto::U32(number) => (*number).into(),
        Proto::U64(number) => (*number).into(),
        Proto::F32(number) => f64::from(*number).into(),
        Proto::F64(number) => (*number).into(),
        Proto::String(text) => text.as_str().into(),
        Proto::EnumNumber(number) => match field.kind() {
            Kind::Enum(descriptor) => enum_value(&descriptor, *number),
            _ => (*number).into(),
        },
        Proto::Message(inner) => message_value(inner),
        Proto::List(items) => items.iter().map(|item| plain_value(field, item)).collect(),
        // Only nodes' messages hold bytes and maps, and none of those is shown.
        Proto::Bytes(_) | Proto::Map(_) => Value::Null,
    }
}

fn enum_value(descriptor: &EnumDescriptor, number: i32) -> Value {
    if number == 0 {
        return Value::Null;
    }
    let Some(value) = descriptor.get_value(number) else { return format!("unknown_{number}").into() };
    let mut prefix = String::new();
    for letter in descriptor.name().chars() {
        if letter.is_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.extend(letter.to_uppercase());
    }
    prefix.push('_');
    value.name().trim_start_matches(&prefix).to_lowercase().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_message_is_in_the_contract() {
        for name in NAMES {
            assert!(descriptor(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_unknown_is_null_and_what_is_zero_is_zero() {
        let node = v1::NodeStatus {
            node_id: "n1".into(),
            state: v1::NodeState::NotSeen.into(),
            last_seen_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 500_000_000 }),
            push_seconds: Some(0.0),
            ..v1::NodeStatus::default()
        };
        let shown = value(&node).unwrap();
        assert_eq!(shown["state"], "not_seen");
        assert_eq!(shown["role"], Value::Null);
        assert_eq!(shown["lag"], Value::Null);
        assert_eq!(shown["clock_skew_seconds"], Value::Null);
        assert_eq!(shown["push_seconds"], json!(0.0));
        assert_eq!(shown["last_seen_at"], "2023-11-14T22:13:20.5Z");
        assert_eq!(shown["connected_at"], Value::Null);
        assert_eq!(shown["revision"], 0);
        assert_eq!(shown["problems"], json!([]));
    }

    #[test]
    fn large_numbers_next_tries_and_embedded_json_keep_their_meaning() {
        let failure = v1::FailureStatus {
            row: Some(v1::ParkedRow { next_try: 1_700_000_000, rowid: i64::MAX, ..v1::ParkedRow::default() }),
            ..v1::FailureStatus::default()
        };
        let shown = value(&failure).unwrap();
        assert_eq!(shown["row"]["next_try"], "2023-11-14T22:13:20Z");
        assert_eq!(shown["row"]["rowid"], json!(i64::MAX));
        let change = v1::Change {
            kind: v1::ChangeKind::Changed.into(),
            before: "{\"a\":[1]}".into(),
            ..v1::Change::default()
        };
        let shown = value(&change).unwrap();
        assert_eq!(
            (&shown["kind"], &shown["before"], &shown["after"]),
            (&json!("changed"), &json!({"a": [1]}), &Value::Null)
        );
    }

    #[test]
    fn values_of_a_newer_contract_are_not_lost() {
        let node = v1::NodeStatus { state: 77, ..v1::NodeStatus::default() };
        assert_eq!(value(&node).unwrap()["state"], "unknown_77");
    }
}
