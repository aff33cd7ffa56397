//! A user of the reply as a flat record: what is kept, what is rejected and why, and what never leaves the fetch.

use serde_json::Value;
use uuid::Uuid;

/// Passwords and what is made of them.
const SECRETS: [&str; 5] = ["password", "salt", "md5", "sha1", "sha256"];

/// A flat user.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Record {
    /// `login.uuid`.
    pub id: Option<String>,
    /// Columns 1 to 14, in the order of [`TEXTS`].
    pub texts: [Option<String>; TEXTS.len()],
    /// Degrees.
    pub latitude: Option<f64>,
    /// Degrees.
    pub longitude: Option<f64>,
    /// Why it cannot be used.
    pub rejected: Option<String>,
}

/// Columns of text behind `id`.
pub const TEXTS: [&str; 14] = [
    "first_name",
    "last_name",
    "gender",
    "address",
    "post_code",
    "email",
    "username",
    "dob",
    "registered_date",
    "phone",
    "picture",
    "country",
    "city",
    "nat",
];

/// Looks values up and remembers the first that is of no use.
struct Reader<'a> {
    user: &'a Value,
    wrong: Option<String>,
}

impl<'a> Reader<'a> {
    fn at(&self, path: &str) -> Option<&'a Value> {
        path.split('.').try_fold(self.user, |value, key| value.get(key)).filter(|value| !value.is_null())
    }
    fn of_no_use<T>(&mut self, why: &str, path: &str) -> Option<T> {
        self.wrong.get_or_insert_with(|| format!("{why}: {path}"));
        None
    }
    fn wrong<T>(&mut self, path: &str) -> Option<T> {
        self.of_no_use("wrong type", path)
    }
    /// JSON has zero characters in texts, PostgreSQL does not.
    fn whole(&mut self, text: &str, path: &str) -> Option<String> {
        if text.contains('\0') { self.of_no_use("zero character", path) } else { Some(text.to_string()) }
    }
    /// A text.
    fn text(&mut self, path: &str) -> Option<String> {
        match self.at(path)? {
            Value::String(text) => self.whole(text, path),
            _ => self.wrong(path),
        }
    }
    /// A text, or a number, which the service has in its place for some nationalities.
    fn text_or_number(&mut self, path: &str) -> Option<String> {
        match self.at(path)? {
            Value::String(text) => self.whole(text, path),
            Value::Number(number) => Some(number.to_string()),
            _ => self.wrong(path),
        }
    }
    /// A number, mostly as text.
    fn degrees(&mut self, path: &str) -> Option<f64> {
        let number = match self.at(path)? {
            Value::String(text) => text.trim().parse().ok(),
            Value::Number(number) => number.as_f64(),
            _ => None,
        };
        match number.filter(|number: &f64| number.is_finite()) {
            Some(number) => Some(number),
            None => self.wrong(path),
        }
    }
}

/// Flattens a user. What is of no use is null, and the record rejected.
pub fn record(user: &Value) -> Record {
    if !user.is_object() {
        return Record { rejected: Some("not an object".into()), ..Record::default() };
    }
    let mut reader = Reader { user, wrong: None };
    let id = reader.text("login.uuid");
    let no_id = id.is_none() && reader.wrong.is_none();
    let id = match id.as_deref().map(Uuid::try_parse) {
        Some(Ok(uuid)) => Some(uuid.to_string()),
        Some(Err(_)) => reader.wrong("login.uuid"),
        None => None,
    };
    let number = reader.text_or_number("location.street.number");
    let street = reader.text("location.street.name");
    let street = match (number, street) {
        (Some(number), Some(street)) => Some(format!("{number} {street}")),
        (one, other) => one.or(other),
    };
    let (city, country) = (reader.text("location.city"), reader.text("location.country"));
    let parts: Vec<String> =
        [street, city.clone(), reader.text("location.state"), country.clone()].into_iter().flatten().collect();
    let texts = [
        reader.text("name.first"),
        reader.text("name.last"),
        reader.text("gender"),
        (!parts.is_empty()).then(|| parts.join(", ")),
        reader.text_or_number("location.postcode"),
        reader.text("email"),
        reader.text("login.username"),
        reader.text("dob.date"),
        reader.text("registered.date"),
        reader.text("phone"),
        reader.text("picture.medium"),
        country,
        city,
        reader.text("nat"),
    ];
    let (latitude, longitude) =
        (reader.degrees("location.coordinates.latitude"), reader.degrees("location.coordinates.longitude"));
    let rejected = if no_id { Some("missing id".into()) } else { reader.wrong };
    Record { id, texts, latitude, longitude, rejected }
}

/// The user as it came, without secrets, as JSON; none when it has no parts to tell them from.
pub fn without_secrets(mut user: Value) -> Option<String> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|key, _| !SECRETS.iter().any(|secret| key.eq_ignore_ascii_case(secret)));
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let members = user.as_object_mut()?;
    // A login that is no object may be a password by itself.
    members.retain(|key, value| key != "login" || value.is_object());
    strip(&mut user);
    Some(user.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "9749f3dc-5dda-47cc-bddb-5e14a58d354f";

    fn user() -> Value {
        json!({
            "gender": "female", "name": {"title": "Miss", "first": "Manuela", "last": "Iglesias"},
            "location": {"street": {"number": 9911, "name": "Calle Covadonga"}, "city": "Sevilla", "state": "La Rioja",
                "country": "Spain", "postcode": 41789, "coordinates": {"latitude": "-38.2720", "longitude": "102.2622"}},
            "email": "m@example.com",
            "login": {"uuid": ID, "username": "goose", "password": "smart", "salt": "13NC", "md5": "31bc", "sha1": "5d24",
                "sha256": "7c99"},
            "dob": {"date": "1948-04-03T15:02:01.210Z", "age": 78}, "registered": {"date": "2007-06-10T01:29:32.893Z"},
            "phone": "935", "picture": {"medium": "https://p/62.jpg"}, "nat": "ES"
        })
    }

    #[test]
    fn a_user_is_flattened() {
        let found = record(&user());
        assert_eq!((found.id.as_deref(), found.rejected.as_deref()), (Some(ID), None));
        let text = |name: &str| found.texts[TEXTS.iter().position(|known| *known == name).unwrap()].as_deref();
        assert_eq!(text("address"), Some("9911 Calle Covadonga, Sevilla, La Rioja, Spain"));
        assert_eq!((text("post_code"), text("dob")), (Some("41789"), Some("1948-04-03T15:02:01.210Z")));
        assert_eq!((found.latitude, found.longitude), (Some(-38.272), Some(102.2622)));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let check = |path: &str, value: Value, expect: Option<&str>| {
            let mut user = user();
            *user.pointer_mut(path).unwrap() = value;
            assert_eq!(record(&user).rejected.as_deref(), expect, "{path}");
        };
        check("/login/uuid", Value::Null, Some("missing id"));
        check("/login/uuid", json!(7), Some("wrong type: login.uuid"));
        check("/login/uuid", json!("no uuid"), Some("wrong type: login.uuid"));
        check("/login", json!("x"), Some("missing id"));
        check("/name/first", json!({"a": 1}), Some("wrong type: name.first"));
        check("/location/coordinates/latitude", json!("north"), Some("wrong type: location.coordinates.latitude"));
        check("/location/postcode", json!("AB1 2CD"), None);
        check("/location/postcode", json!([1]), Some("wrong type: location.postcode"));
        check("/location/postcode", json!("AB1\0"), Some("zero character: location.postcode"));
        check("/name/first", json!("A\0B"), Some("zero character: name.first"));
        check("/login/uuid", json!("\0"), Some("zero character: login.uuid"));
        check("/phone", Value::Null, None);
        assert_eq!(record(&json!([1])).rejected.as_deref(), Some("not an object"));
        // An id in another spelling is the same id.
        let mut upper = user();
        upper["login"]["uuid"] = json!(ID.to_uppercase());
        assert_eq!(record(&upper).id.as_deref(), Some(ID));
    }

    #[test]
    fn secrets_stay_behind() {
        let raw = without_secrets(user()).unwrap();
        for secret in ["smart", "13NC", "31bc", "5d24", "7c99"] {
            assert!(!raw.contains(secret), "{raw}");
        }
        assert!(raw.contains("Miss") && raw.contains("goose"));
        let mut odd = user();
        odd["login"] = json!("smart");
        odd["extra"] = json!([{"Password": "smart"}]);
        assert!(!without_secrets(odd).unwrap().contains("smart"));
        assert_eq!(without_secrets(json!("smart")), None);
    }
}
