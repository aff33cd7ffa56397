//! Against the registry at `REGISTRY_ADDRESS` (the base URL of its API), and against a server here that misbehaves.

use super::*;
use crate::connectors::Options;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

/// The address of the real registry, or none with a line that says so.
pub(crate) fn address(test: &str) -> Option<String> {
    let address = std::env::var("REGISTRY_ADDRESS").ok();
    if address.is_none() {
        assert!(std::env::var("HEADWATER_REQUIRE_SERVICES").as_deref() != Ok("1"), "REGISTRY_ADDRESS is not set");
        println!("skipped: {test}: REGISTRY_ADDRESS is not set");
    }
    address
}

/// A subject of a test's own.
pub(crate) fn subject(test: &str) -> String {
    format!("{test}-{}-value", uuid::Uuid::new_v4().simple())
}

fn registry(pairs: &[(&str, &str)]) -> Registry {
    Registry::of(&Config::from_options(&Options::new(pairs.iter().copied())).unwrap()).unwrap()
}

fn record(fields: &str) -> Definition {
    Definition::new(Kind::Avro, format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#))
}

const ID: &str = r#"{"name":"id","type":"long"}"#;

#[tokio::test]
async fn schemas_are_registered_and_found() {
    let Some(address) = address("schemas_are_registered_and_found") else { return };
    let (registry, subject) = (registry(&[("schema.registry.address", &address)]), subject("found"));
    let missing = registry.latest(&subject).await.unwrap_err();
    assert_eq!((missing.kind, missing.class.as_str()), (ErrorKind::NotFound, "SCHEMA_REGISTRY_NOT_FOUND"));
    assert_eq!(registry.lookup(&subject, &record(ID)).await.unwrap_err().kind, ErrorKind::NotFound);

    let id = registry.register(&subject, &record(ID)).await.unwrap();
    assert_eq!(registry.register(&subject, &record(ID)).await.unwrap(), id);
    assert_eq!(registry.lookup(&subject, &record(ID)).await.unwrap(), id);
    let found = registry.by_id(id).await.unwrap();
    assert_eq!((found.id, found.kind, found.text.contains("\"id\"")), (id, Kind::Avro, true));
    assert!(registry.cached(id).unwrap().is_some());

    let next = record(&format!(r#"{ID},{{"name":"n","type":["null","int"],"default":null}}"#));
    let next = registry.register(&subject, &next).await.unwrap();
    let latest = registry.latest(&subject).await.unwrap();
    assert!(latest.id == next && next != id, "{latest:?}");

    let bad = record(&format!(r#"{ID},{{"name":"must","type":"int"}}"#));
    let error = registry.register(&subject, &bad).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "SCHEMA_REGISTRY_INCOMPATIBLE_SCHEMA"));
    assert!(error.message.contains("must") && error.message.contains(&subject), "{error}");
    let error = registry.register(&subject, &Definition::new(Kind::Avro, "{")).await.unwrap_err();
    assert_eq!(error.class, "SCHEMA_REGISTRY_INVALID_SCHEMA", "{error}");
}

#[tokio::test]
async fn an_unknown_id_is_asked_for_once() {
    let Some(address) = address("an_unknown_id_is_asked_for_once") else { return };
    let registry = registry(&[("schema.registry.address", &address), ("schema.registry.request.timeout.ms", "9999")]);
    assert_eq!(registry.by_id(2_000_000_000).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(registry.cached(2_000_000_000).unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn references_are_fetched_dependencies_first() {
    let Some(address) = address("references_are_fetched_dependencies_first") else { return };
    let registry = registry(&[("schema.registry.address", &address)]);
    let city = subject("city");
    let home = subject("home");
    let user = subject("user");
    let proto = |text: &str, references: Vec<(String, String, u32)>| Definition {
        kind: Kind::Protobuf,
        text: format!("syntax = \"proto3\"; package r; {text}"),
        references,
    };
    registry.register(&city, &proto("message City { string name = 1; }", vec![])).await.unwrap();
    let on_city = vec![("city.proto".to_string(), city, 1)];
    registry.register(&home, &proto("import \"city.proto\"; message Home { City city = 1; }", on_city)).await.unwrap();
    let on_home = vec![("home.proto".to_string(), home, 1)];
    let text = "import \"home.proto\"; message User { Home home = 1; }";
    let id = registry.register(&user, &proto(text, on_home)).await.unwrap();
    let found = registry.by_id(id).await.unwrap();
    let names: Vec<_> = found.references.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((found.kind, names), (Kind::Protobuf, vec!["city.proto", "home.proto"]));
}

/// Answers every request by what `answer` makes of its head, and counts them.
fn serve(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> (String, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Ok(reading) = stream.try_clone() else { return };
            let lines = BufReader::new(reading).lines().map_while(|line| line.ok().filter(|line| !line.is_empty()));
            let head = lines.collect::<Vec<_>>().join("\n");
            *counted.lock().unwrap() += 1;
            let (status, body) = answer(&head);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    (address, count)
}

#[tokio::test]
async fn logins_are_sent_and_never_shown() {
    let (address, _) = serve(|head| {
        // ann:geheim
        let basic = head.to_ascii_lowercase().contains("authorization: basic yw5uomdlagvpbq==");
        let token = head.to_ascii_lowercase().contains("authorization: bearer t-geheim");
        if basic || token {
            (200, r#"{"subject":"s","version":1,"id":5,"schema":"\"int\""}"#.into())
        } else {
            (401, r#"{"error_code":401,"message":"who are you"}"#.into())
        }
    });
    let address = ("schema.registry.address", address.as_str());
    let info = "confluent.schema.registry.basic.auth.user.info";
    for pairs in [vec![address, (info, "ann:geheim")], vec![address, ("schema.registry.bearer.auth.token", "t-geheim")]]
    {
        assert_eq!(registry(&pairs).latest("s").await.unwrap().id, 5);
    }
    for pairs in [vec![address], vec![address, (info, "ann:geheim2")]] {
        let registry = registry(&pairs);
        let error = registry.latest("s").await.unwrap_err();
        assert_eq!(
            (error.kind, error.class.as_str()),
            (ErrorKind::InvalidRequest, "SCHEMA_REGISTRY_AUTHENTICATION_FAILED")
        );
        assert!(!format!("{error} {error:?} {registry:?}").contains("geheim"), "{error}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let (address, count) = serve(|_| (503, r#"{"error_code":50301,"message":"starting"}"#.into()));
    let error = registry(&[("schema.registry.address", &address)]).latest("s").await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "SCHEMA_REGISTRY_UNREACHABLE"));
    assert!(error.message.contains("starting"), "{error}");
    assert_eq!(*count.lock().unwrap(), 1 + PAUSES.len());

    let (address, count) = serve(|_| (200, "<html>".into()));
    let error = registry(&[("schema.registry.address", &address)]).latest("s").await.unwrap_err();
    assert_eq!((error.kind, *count.lock().unwrap()), (ErrorKind::InvalidRequest, 1), "{error}");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let registry = registry(&[("schema.registry.address", &format!("http://{closed}"))]);
    let error = registry.latest("s").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
}

#[tokio::test]
async fn the_second_address_stands_in() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (there, _) = serve(|_| (200, r#"{"id":5,"schema":"\"int\""}"#.into()));
    let registry = registry(&[("schema.registry.address", &format!("http://{closed},{there}"))]);
    assert_eq!(registry.latest("s").await.unwrap().id, 5);
}

#[test]
fn waiting_works_wherever_it_is_done() {
    let call = || async { Ok(7) };
    assert_eq!(wait(call()).unwrap(), 7);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(async { wait(call()).unwrap() }), 7);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    assert_eq!(runtime.block_on(async { tokio::spawn(async move { wait(call()) }).await.unwrap().unwrap() }), 7);
}

#[test]
fn the_oldest_is_forgotten() {
    let mut map = Bounded::default();
    map.insert(1, 'a', 2);
    map.insert(2, 'b', 2);
    assert_eq!(map.get(&1), Some(&'a'));
    map.insert(3, 'c', 2);
    assert_eq!([1, 2, 3].map(|key| map.get(&key).copied()), [Some('a'), None, Some('c')]);
}
