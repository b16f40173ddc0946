//! Calls of our read-only program.

use common::query::{self, Counters, ListArguments, Page, Place, Status, Target};
use common::rpc::Call;
use common::xdr::{Reader, Writer};
use serde_json::{Value, json};

use super::input::Input;

/// Calls that one input makes.
const CALLS_MAX: usize = 8;

/// A page that is answered has items in the order of their places, behind the one that was asked
/// for, within the limit, and leads on if there are more. Nothing else is answered than is defined.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let items = Items::new(&mut input);
    for _ in 0..CALLS_MAX {
        if input.is_empty() {
            break;
        }
        let procedure = i32::from(input.byte() % 5);
        let arguments = arguments(&mut input);
        let call = Call { procedure, arguments: arguments.clone(), fds: Vec::new() };
        let Ok(reply) = query::dispatch(&call, &items) else { continue };
        assert!((1..=3).contains(&procedure) && reply.fds.is_empty());
        let answer = Reader::new(&reply.payload).opaque(u32::MAX).expect("an opaque");
        let answer: Value = serde_json::from_slice(answer).expect("JSON");
        if procedure == query::procedure::LIST {
            items.check(&asked(&arguments), &answer);
        }
    }
}

/// Items with these places, and the bytes of each.
struct Items(Vec<(Place, usize)>);

impl Items {
    fn new(input: &mut Input<'_>) -> Self {
        let mut place = Place::default();
        let count = input.below(12);
        let mut next = |_| {
            if input.flag() {
                place.holder += 1 + u64::from(input.byte() % 3);
            } else {
                place = Place { number: place.number + 1 + u64::from(input.byte()), holder: 0 };
            }
            (place, 1 + input.below(30_000))
        };
        Self((0..count).map(&mut next).collect())
    }

    /// Checks an answer to these arguments.
    fn check(&self, asked: &ListArguments, answer: &Value) {
        let after = place(asked.after.as_deref().unwrap_or_default());
        let limit = asked.limit_bytes.and_then(|limit| limit.try_into().ok());
        let limit = limit.unwrap_or(usize::MAX).min(query::PAGE_BYTES_MAX);
        let listed = answer["items"].as_array().expect("items");
        let left: Vec<_> = self.0.iter().filter(|(place, _)| *place > after).collect();
        assert!(listed.len() <= left.len());
        for (item, (place, bytes)) in listed.iter().zip(&left) {
            assert_eq!(item["place"], place.to_string());
            assert_eq!(item["text"].as_str().map(str::len), Some(*bytes));
        }
        let lengths: usize = listed.iter().map(|item| item.to_string().len() + 1).sum();
        assert!(listed.len() <= 1 || lengths <= limit + 1, "{lengths} bytes, with {limit}");
        let next = answer["next"].as_str().map(place);
        match next {
            None => assert_eq!(listed.len(), left.len(), "there are more"),
            Some(next) => {
                assert!(!listed.is_empty() && listed.len() < left.len(), "a page leads on");
                assert_eq!(next, left[listed.len() - 1].0);
            }
        }
    }
}

impl Target for Items {
    fn status(&self) -> Status {
        Status::default()
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn list(&self, after: Place, page: &mut Page) {
        for (place, bytes) in self.0.iter().filter(|(place, _)| *place > after) {
            let item = json!({ "place": place.to_string(), "text": "x".repeat(*bytes) });
            if page.push(*place, &item).is_break() {
                return;
            }
        }
    }
}

/// Arguments of a list, other JSON, or anything.
fn arguments(input: &mut Input<'_>) -> Vec<u8> {
    let mut writer = Writer::new();
    match input.byte() % 4 {
        0 => return input.bytes().to_vec(),
        1 => writer.opaque(input.bytes()),
        2 => writer.opaque(b"{}"),
        _ => {
            let after = Place { number: input.byte().into(), holder: (input.byte() % 4).into() };
            let limit_bytes = u64::from(input.u32() % 80_000);
            let list = json!({ "after": after.to_string(), "limit_bytes": limit_bytes });
            writer.opaque(list.to_string().as_bytes())
        }
    };
    writer.into_bytes()
}

/// What arguments that were answered say.
fn asked(arguments: &[u8]) -> ListArguments {
    let asked = Reader::new(arguments).opaque(u32::MAX).expect("they were understood");
    serde_json::from_slice(asked).expect("they were understood")
}

/// The place of a text that was understood.
fn place(text: &str) -> Place {
    let (number, holder) = text.split_once('.').unwrap_or((text, "0"));
    let parsed =
        |digits: &str| if digits.is_empty() { 0 } else { digits.parse().expect("a number") };
    Place { number: parsed(number), holder: parsed(holder) }
}
