//! `headwater health`: asks a scheduler or an executor whether it is well, for images without curl.
//!
//! One GET of `/healthz` by hand: a client of HTTP would be a dependency for twenty lines.

use super::Error;
use super::args::HealthArgs;
use std::io::{self, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Who is asked answers in a line.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Runs the command.
pub async fn run(args: HealthArgs) -> Result<(), Error> {
    let address = &args.http;
    if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
        return Err(Error::Usage(format!(
            "[INVALID_ADDRESS] {address:?} is no address of an HTTP port: give HOST:PORT"
        )));
    }
    let asked = tokio::time::timeout(Duration::from_secs(args.timeout), ask(address)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Error::Failed(format!("[UNHEALTHY] {address} is not reached: {error}"))),
        Err(_) => {
            return Err(Error::Failed(format!("[UNHEALTHY] {address} has not answered within {} s", args.timeout)));
        }
    };
    match judge(&answer) {
        Some((200, said)) => Ok(writeln!(io::stdout(), "{said}")?),
        Some((status, said)) => Err(Error::Failed(format!("[UNHEALTHY] {address} answers {status}: {said}"))),
        None => {
            Err(Error::Failed(format!("[UNHEALTHY] {address} does not speak HTTP: name its HTTP port with --http")))
        }
    }
}

async fn ask(address: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // Version 1.0: the answer ends with the connection.
    stream.write_all(format!("GET /healthz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Status and text of an answer; none when it is no HTTP.
fn judge(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.trim().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |answer: &str, expect: Option<(u16, &str)>| {
            assert_eq!(judge(answer.as_bytes()), expect.map(|(status, said)| (status, said.to_string())), "{answer:?}");
        };
        check("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n", Some((200, "ok")));
        check("HTTP/1.0 503 Service Unavailable\r\n\r\nno scheduler\n", Some((503, "no scheduler")));
        check("HTTP/1.0 503 \r\n", None);
        check("SSH-2.0-OpenSSH\r\n\r\n", None);
        check("", None);
    }
}
