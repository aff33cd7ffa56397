//! `--ha zookeeper://host:2181,…/path`: who owns the ephemeral node `path/leader` lives, and may lead.
//!
//! The node holds the id of its owner's process. The session goes on at another server when its own dies, so that this
//! deposes nobody.

mod session;

use super::Life;
use super::lease::{LEASE, REQUEST_MAX, Sign};
use headwater_proto::error::{Error, Result};
use session::Session;
use std::fmt;
use uuid::Uuid;

/// Where: `host:port` of the servers, and the path of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    hosts: Vec<String>,
    path: String,
}

const PORT: u16 = 2181;

impl Address {
    /// Reads what follows `zookeeper://`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (hosts, path) = text.split_once('/').unwrap_or((text, ""));
        if hosts.contains('@') {
            return Err("names and passwords are not supported: restrict access by network".into());
        }
        let hosts: Vec<_> = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(with_port).collect();
        if hosts.is_empty() {
            return Err("no host is named: give zookeeper://host:2181/path, several hosts by comma".into());
        }
        let path = path.trim_matches('/');
        if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err("no path is named: give zookeeper://host:2181/path, a path of this cluster's own".into());
        }
        Ok(Self { hosts, path: format!("/{path}") })
    }
}

fn with_port(host: &str) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_string() } else { format!("{host}:{PORT}") }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zookeeper://{}{}", self.hosts.join(","), self.path)
    }
}

/// Who owns the node.
enum Owner {
    Us,
    Another,
}

/// See the module.
pub(super) struct Node {
    address: Address,
    /// Whose it is when it is ours.
    holder: Uuid,
    session: Session,
}

impl Node {
    pub fn new(address: Address, holder: Uuid) -> Self {
        let session = Session::new(address.hosts.clone(), LEASE);
        Self { address, holder, session }
    }

    fn path(&self) -> String {
        format!("{}/leader", self.address.path)
    }

    /// Makes the node ours if it is nobody's.
    async fn own(&mut self) -> Result<Owner> {
        let path = self.path();
        let reason = match tokio::time::timeout(REQUEST_MAX / 2, own(&mut self.session, &path, self.holder)).await {
            Ok(Ok(owner)) => return Ok(owner),
            Ok(Err(error @ session::Error::Refused(_))) => {
                return Err(Error::transient(
                    "ZOOKEEPER_REFUSED",
                    format!(
                        "{}: {path}: {error}: the node and its parents must be writable by everybody (no ACL), and no \
                         parent may be ephemeral",
                        self.address
                    ),
                ));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".into(),
        };
        let host = self.session.host().to_string();
        self.session.turn();
        let remedy = "start it, or check --ha";
        Err(Error::transient(
            "ZOOKEEPER_UNAVAILABLE",
            format!("{} does not answer: {host}: {reason}: {remedy}", self.address),
        ))
    }
}

async fn own(session: &mut Session, path: &str, holder: Uuid) -> Result<Owner, session::Error> {
    let data = holder.to_string().into_bytes();
    // An old answer must not count as a renewal.
    session.sync(path).await?;
    if let Some(found) = session.get(path).await? {
        if found.data != data {
            return Ok(Owner::Another);
        }
        if found.owner == session.id() {
            return Ok(Owner::Us);
        }
        // Of a session of ours that has expired: it would go within moments.
        session.delete(path, found.version).await?;
    }
    for (at, _) in path.match_indices('/').skip(1) {
        session.create(&path[..at], b"", false).await?;
    }
    Ok(if session.create(path, &data, true).await? { Owner::Us } else { Owner::Another })
}

#[async_trait::async_trait]
impl Life for Node {
    async fn look(&mut self, _: Option<u64>, _: bool) -> Result<Sign> {
        Ok(match self.own().await? {
            Owner::Us => Sign::Gone,
            Owner::Another => Sign::Unclear,
        })
    }

    async fn settle(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    async fn beat(&mut self, _: u64) -> Result<()> {
        match self.own().await? {
            Owner::Us => Ok(()),
            Owner::Another => {
                Err(Error::fatal(super::LEADERSHIP_LOST, format!("{} is another scheduler's by now", self.path())))
            }
        }
    }

    async fn release(&mut self, _: u64) -> Result<()> {
        let away = |reason: String| Error::transient("ZOOKEEPER_UNAVAILABLE", reason);
        match tokio::time::timeout(REQUEST_MAX, self.session.close()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(away(error.to_string())),
            Err(_) => Err(away("no answer in time".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn addresses() {
        let check = |text: &str, expect: &str| {
            let shown = Address::parse(text).map(|address| address.to_string()).unwrap_or_else(|error| error);
            assert!(shown.contains(expect), "{text}: {shown}");
        };
        check("a:1/x", "zookeeper://a:1/x");
        check("a,b:2 , c/x/y/", "zookeeper://a:2181,b:2,c:2181/x/y");
        check("[::1]:5/x", "zookeeper://[::1]:5/x");
        check("/x", "no host");
        check("a:1", "no path");
        check("a:1//", "no path");
        check("a:1/x//y", "no path");
        check("u:p@a/x", "passwords are not supported");
    }

    /// Serves one connection as ZooKeeper does: the node is `there`, or there is none and none may be made. Notes what
    /// is asked, by ZooKeeper's numbers.
    async fn zookeeper(there: Option<Uuid>) -> (Address, Arc<Mutex<Vec<i32>>>) {
        const SESSION: i64 = 7;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::parse(&format!("{}/x", listener.local_addr().unwrap())).unwrap();
        let asked = Arc::new(Mutex::new(vec![]));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut connected = false;
            loop {
                let Ok(length) = connection.read_i32().await else { return };
                let mut request = vec![0; length as usize];
                connection.read_exact(&mut request).await.unwrap();
                let int = |at: usize| i32::from_be_bytes(request[at..at + 4].try_into().unwrap());
                let mut reply: Vec<u8> = vec![];
                if std::mem::replace(&mut connected, true) {
                    let (xid, kind) = (int(0), int(4));
                    log.lock().unwrap().push(kind);
                    let code: i32 = match (kind, there) {
                        (4, None) => -101,
                        (1, None) => -102,
                        _ => 0,
                    };
                    reply.extend([xid.to_be_bytes().to_vec(), 1_i64.to_be_bytes().to_vec()].concat());
                    reply.extend(code.to_be_bytes());
                    if let (4, Some(holder)) = (kind, there) {
                        let data = holder.to_string();
                        reply.extend((data.len() as i32).to_be_bytes());
                        reply.extend(data.as_bytes());
                        reply.extend([0; 4 * 8 + 3 * 4]);
                        reply.extend(SESSION.to_be_bytes());
                    }
                } else {
                    reply.extend([0_i32.to_be_bytes(), 4000_i32.to_be_bytes()].concat());
                    reply.extend(SESSION.to_be_bytes());
                    reply.extend(0_i32.to_be_bytes());
                }
                connection.write_i32(reply.len() as i32).await.unwrap();
                connection.write_all(&reply).await.unwrap();
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn a_renewal_is_no_old_answer() {
        let holder = Uuid::new_v4();
        let (address, asked) = zookeeper(Some(holder)).await;
        Node::new(address, holder).beat(1).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), [9, 4], "the ensemble is asked first, then the node is read");
    }

    #[tokio::test]
    async fn what_is_wrong_comes_with_a_remedy() {
        let (address, _) = zookeeper(None).await;
        let error = Node::new(address, Uuid::new_v4()).beat(1).await.unwrap_err();
        assert_eq!(error.class, "ZOOKEEPER_REFUSED");
        assert!(error.message.contains("error code -102: the node and its parents must be writable"), "{error}");
        // Bound and let go: nobody listens there.
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let address = Address::parse(&format!("{nobody}/x")).unwrap();
        let error = Node::new(address, Uuid::new_v4()).beat(1).await.unwrap_err();
        assert_eq!(error.class, "ZOOKEEPER_UNAVAILABLE");
        assert!(error.message.ends_with("start it, or check --ha"), "{error}");
    }
}
