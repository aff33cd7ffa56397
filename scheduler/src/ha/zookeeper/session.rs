//! A session with Apache ZooKeeper: the few requests that an election takes, one after the other.
//!
//! A session outlives its connection: it is taken along to the next server when one dies or hangs. Whoever asks at least
//! once a second needs no pings, and watches are not used. A request that is dropped half way takes its connection with
//! it, never the session.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Kinds of requests, by ZooKeeper's numbers.
const CREATE: i32 = 1;
const DELETE: i32 = 2;
const GET_DATA: i32 = 4;
const SYNC: i32 = 9;
const CLOSE: i32 = -11;
/// Codes of replies.
const NO_NODE: i32 = -101;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
/// All rights to everybody: ZooKeeper's `OPEN_ACL_UNSAFE`.
const RIGHTS_ALL: i32 = 31;
/// Far above any answer to what is asked here.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Why a request did not come about. None of these says anything about the session, but the second.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection, or what came over it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It lasted too long without a request; the next request begins another.
    #[error("the session has expired")]
    Expired,
    /// ZooKeeper refused.
    #[error("refused with ZooKeeper's error code {0}")]
    Refused(i32),
}

/// A node's content and who owns it.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// As it was created.
    pub data: Vec<u8>,
    /// Counts changes.
    pub version: i32,
    /// The session that it ends with; 0: none.
    pub owner: i64,
}

/// See the module.
pub struct Session {
    hosts: Vec<String>,
    /// Which of them is asked, and asked first.
    host: usize,
    timeout: Duration,
    /// 0: there is none yet.
    id: i64,
    password: Vec<u8>,
    /// The latest change that was seen: no server that has not seen it is talked to.
    zxid: i64,
    xid: i32,
    connection: Option<TcpStream>,
}

impl Session {
    /// None yet; the first request begins it. It ends when it is silent for `timeout`.
    pub fn new(hosts: Vec<String>, timeout: Duration) -> Self {
        Self { hosts, host: 0, timeout, id: 0, password: vec![], zxid: 0, xid: 0, connection: None }
    }

    /// Its id, by which nodes name their owner.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The server that is asked.
    pub fn host(&self) -> &str {
        &self.hosts[self.host]
    }

    /// On to the next server, with this session.
    pub fn turn(&mut self) {
        self.connection = None;
        self.host = (self.host + 1) % self.hosts.len();
    }

    /// Brings the server that is asked to where the ensemble is: one that is cut off from it answers reads from what it
    /// knew last, this not at all.
    pub async fn sync(&mut self, path: &str) -> Result<(), Error> {
        let mut body = Message::default();
        body.text(path);
        match self.ask(SYNC, body).await {
            Ok(_) | Err(Error::Refused(NO_NODE)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A node, if it is there.
    pub async fn get(&mut self, path: &str) -> Result<Option<Node>, Error> {
        let mut body = Message::default();
        body.text(path);
        body.0.push(0); // no watch
        let reply = match self.ask(GET_DATA, body).await {
            Err(Error::Refused(NO_NODE)) => return Ok(None),
            reply => reply?,
        };
        let mut reply = Reader(&reply);
        let data = reply.bytes()?.to_vec();
        reply.take(4 * 8)?; // czxid, mzxid, ctime, mtime
        let version = reply.int()?;
        reply.take(2 * 4)?; // cversion, aversion
        Ok(Some(Node { data, version, owner: reply.long()? }))
    }

    /// Makes a node, which ends with the session if it is `ephemeral`. False when it is there already.
    pub async fn create(&mut self, path: &str, data: &[u8], ephemeral: bool) -> Result<bool, Error> {
        let mut body = Message::default();
        body.text(path);
        body.bytes(data);
        body.int(1); // one list of rights
        body.int(RIGHTS_ALL);
        body.text("world");
        body.text("anyone");
        body.int(i32::from(ephemeral));
        match self.ask(CREATE, body).await {
            Ok(_) => Ok(true),
            Err(Error::Refused(NODE_EXISTS)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a node if it is still of that version.
    pub async fn delete(&mut self, path: &str, version: i32) -> Result<(), Error> {
        let mut body = Message::default();
        body.text(path);
        body.int(version);
        match self.ask(DELETE, body).await {
            Ok(_) | Err(Error::Refused(NO_NODE | BAD_VERSION)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends the session, and with it its nodes.
    pub async fn close(&mut self) -> Result<(), Error> {
        if self.id != 0 {
            self.ask(CLOSE, Message::default()).await?;
        }
        (self.id, self.password, self.connection) = (0, vec![], None);
        Ok(())
    }

    async fn ask(&mut self, kind: i32, body: Message) -> Result<Vec<u8>, Error> {
        // Put back when the reply has come: a connection with half a request or reply is of no use.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        let mut request = Message::default();
        request.int(self.xid);
        request.int(kind);
        request.0.extend(body.0);
        request.send(&mut connection).await?;
        let reply = receive(&mut connection).await?;
        let mut reader = Reader(&reply);
        let (xid, zxid, code) = (reader.int()?, reader.long()?, reader.int()?);
        if xid != self.xid {
            return Err(malformed("a reply to another request").into());
        }
        self.zxid = self.zxid.max(zxid);
        self.connection = Some(connection);
        if code == 0 { Ok(reader.0.to_vec()) } else { Err(Error::Refused(code)) }
    }

    /// A connection of this session, or of a new one.
    async fn connect(&mut self) -> Result<TcpStream, Error> {
        let mut connection = TcpStream::connect(self.host()).await?;
        connection.set_nodelay(true)?;
        let mut request = Message::default();
        request.int(0); // version of the protocol
        request.long(self.zxid);
        request.int(i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX));
        request.long(self.id);
        request.bytes(&self.password);
        request.0.push(0); // not read-only
        request.send(&mut connection).await?;
        let reply = receive(&mut connection).await?;
        let mut reader = Reader(&reply);
        let (_version, timeout, id) = (reader.int()?, reader.int()?, reader.long()?);
        if timeout <= 0 {
            (self.id, self.password) = (0, vec![]);
            return Err(Error::Expired);
        }
        (self.id, self.password) = (id, reader.bytes()?.to_vec());
        Ok(connection)
    }
}

async fn receive(connection: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = connection.read_i32().await?;
    let length = usize::try_from(length).ok().filter(|length| *length <= REPLY_BYTES_MAX);
    let mut reply = vec![0; length.ok_or_else(|| malformed("a reply of no sensible length"))?];
    connection.read_exact(&mut reply).await?;
    Ok(reply)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: what listens there is no ZooKeeper"))
}

/// A message under construction: integers big-endian, texts and bytes after their length.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn int(&mut self, value: i32) {
        self.0.extend(value.to_be_bytes());
    }
    fn long(&mut self, value: i64) {
        self.0.extend(value.to_be_bytes());
    }
    fn bytes(&mut self, value: &[u8]) {
        self.int(i32::try_from(value.len()).expect("paths and ids are short"));
        self.0.extend(value);
    }
    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
    async fn send(self, connection: &mut TcpStream) -> io::Result<()> {
        let mut framed = Message::default();
        framed.bytes(&self.0);
        connection.write_all(&framed.0).await
    }
}

/// What is left of a reply.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| malformed("a reply that ends early"))?;
        self.0 = rest;
        Ok(taken)
    }
    fn int(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }
    fn long(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }
    /// None at all is length -1.
    fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = usize::try_from(self.int()?).unwrap_or(0);
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_zookeepers() {
        let mut message = Message::default();
        message.text("/a");
        message.long(-1);
        assert_eq!(message.0, b"\0\0\0\x02/a\xff\xff\xff\xff\xff\xff\xff\xff");
        let mut reader = Reader(&message.0);
        assert_eq!(reader.bytes().unwrap(), b"/a");
        assert_eq!(reader.long().unwrap(), -1);
        assert!(reader.int().unwrap_err().to_string().contains("ends early"));
        assert_eq!(Reader(&[0xff; 4]).bytes().unwrap(), b"");
    }

    #[tokio::test]
    async fn what_is_no_zookeeper_is_noticed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            }
        });
        let mut session = Session::new(vec![host], Duration::from_secs(4));
        let error = session.get("/a").await.unwrap_err().to_string();
        assert!(error.contains("no sensible length"), "{error}");
    }

    /// Needs `ZOOKEEPER_ADDRESS`; the end-to-end tests have a server, others not.
    #[tokio::test]
    async fn nodes_end_with_their_session() {
        let Ok(host) = std::env::var("ZOOKEEPER_ADDRESS") else { return };
        let path = format!("/session-{}", uuid::Uuid::new_v4());
        let session = || Session::new(vec![host.clone()], Duration::from_secs(4));
        let (mut one, mut two) = (session(), session());
        assert!(one.create(&path, b"1", true).await.unwrap());
        assert!(!two.create(&path, b"2", true).await.unwrap());
        two.sync(&path).await.unwrap();
        two.sync("/nobody").await.unwrap();
        let node = two.get(&path).await.unwrap().unwrap();
        assert_eq!((&node.data[..], node.owner), (&b"1"[..], one.id()));
        // The connection breaks, the session goes on.
        let id = one.id();
        one.turn();
        assert_eq!(one.get(&path).await.unwrap(), Some(node));
        assert_eq!(one.id(), id);
        one.close().await.unwrap();
        assert_eq!(two.get(&path).await.unwrap(), None);
        assert!(two.create(&path, b"2", false).await.unwrap());
        two.delete(&path, 7).await.unwrap();
        let node = two.get(&path).await.unwrap().unwrap();
        assert_eq!(node.owner, 0);
        two.delete(&path, node.version).await.unwrap();
        assert_eq!(two.get(&path).await.unwrap(), None);
        assert!(matches!(two.create("/nobody/child", b"", false).await, Err(Error::Refused(NO_NODE))));
    }
}
