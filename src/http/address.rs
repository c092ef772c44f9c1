//! Where a request comes from: the peer of its connection or, behind a proxy that is trusted, whom the proxy names.

use super::peer::Peer;
use ipnet::IpNet;
use poem::{
    Request,
    http::{HeaderMap, header},
};
use std::net::{IpAddr, SocketAddr};

/// `None` over the control socket.
pub fn of(request: &Request, proxies: &[IpNet]) -> Option<IpAddr> {
    match request.extensions().get::<Peer>()? {
        Peer::Network { remote, .. } => Some(behind(remote.ip().to_canonical(), request.headers(), proxies)),
        Peer::Local(_) => None,
    }
}

/// What a header says counts from the right, as far as each hop is a trusted proxy. Of two headers that disagree the
/// proxy may have written only one: then neither counts.
fn behind(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    if !trusted(peer, proxies) {
        return peer;
    }
    let (said, standard) = (header::HeaderName::from_static("x-forwarded-for"), header::FORWARDED);
    let walk = |name: &header::HeaderName, read: fn(&str) -> Option<IpAddr>| {
        headers.contains_key(name).then(|| nearest(peer, headers, name, read, proxies))
    };
    match (walk(&said, address), walk(&standard, forwarded)) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => peer,
    }
}

/// The nearest hop that is no trusted proxy, or the last that could be read.
fn nearest(
    peer: IpAddr,
    headers: &HeaderMap,
    name: &header::HeaderName,
    read: fn(&str) -> Option<IpAddr>,
    proxies: &[IpNet],
) -> IpAddr {
    let mut hop = peer;
    // A list may come in several lines.
    for line in headers.get_all(name).iter().rev() {
        // As bytes: what the client wrote on the left does not spoil what the proxy added.
        for word in line.as_bytes().rsplit(|byte| *byte == b',') {
            match std::str::from_utf8(word).ok().and_then(|word| read(word.trim())) {
                Some(address) => hop = address.to_canonical(),
                None => return hop,
            }
            if !trusted(hop, proxies) {
                return hop;
            }
        }
    }
    hop
}

fn trusted(address: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|network| network.contains(&address))
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn address(word: &str) -> Option<IpAddr> {
    let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
    bare.parse().ok().or_else(|| word.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// The `for` of a forwarded-element (RFC 7239): `for="[2001:db8::1]:4711";proto=https`.
fn forwarded(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| address(value.trim_matches('"')))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::http::{HeaderName, HeaderValue};

    const CLIENT: &str = "198.51.100.7";

    fn from(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let proxies: Vec<IpNet> = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|net| net.parse().unwrap()).to_vec();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        behind(peer.parse::<IpAddr>().unwrap().to_canonical(), &map, &proxies).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        for header in [("x-forwarded-for", CLIENT), ("forwarded", "for=198.51.100.7")] {
            assert_eq!(from("203.0.113.9", &[header]), "203.0.113.9");
            assert_eq!(from("10.0.0.1", &[header]), CLIENT);
            assert_eq!(from("::ffff:10.0.0.1", &[header]), CLIENT);
            assert_eq!(from("2001:db8:ffff::1", &[header]), CLIENT);
        }
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_the_client_put_on_the_left_is_not_believed() {
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 198.51.100.7")]), CLIENT);
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 198.51.100.7, 10.0.0.2,10.9.9.9")]), CLIENT);
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", CLIENT)]), CLIENT);
        assert_eq!(from("10.0.0.1", &[("forwarded", "for=\"1.1.1.1, for=198.51.100.7;by=10.0.0.1")]), CLIENT);
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")]), "10.0.0.3", "trusted all the way");
        for (said, standard) in [("1.1.1.1", "for=198.51.100.7"), (CLIENT, "for=1.1.1.1"), (CLIENT, "for=unknown")] {
            let answer = from("10.0.0.1", &[("x-forwarded-for", said), ("forwarded", standard)]);
            assert_eq!(answer, "10.0.0.1", "{said} and {standard}");
        }
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", CLIENT), ("forwarded", "for=198.51.100.7")]), CLIENT);
    }

    #[test]
    fn what_cannot_be_read_ends_at_the_last_good_hop() {
        for word in ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "x, ", ",", "\u{e9}"] {
            assert_eq!(from("10.0.0.1", &[("x-forwarded-for", &format!("1.1.1.1, {word}"))]), "10.0.0.1", "{word}");
            assert_eq!(from("10.0.0.1", &[("x-forwarded-for", &format!("{word}, 10.0.0.2"))]), "10.0.0.2", "{word}");
            assert_eq!(from("10.0.0.1", &[("forwarded", &format!("for={word}"))]), "10.0.0.1", "{word}");
        }
        assert_eq!(from("10.0.0.1", &[("forwarded", "proto=https")]), "10.0.0.1");
    }

    #[test]
    fn ports_and_brackets_are_left_out() {
        for (said, standard) in [
            ("198.51.100.7:4711", "for=198.51.100.7:4711"),
            ("198.51.100.7", "proto=https; FOR=\"198.51.100.7\""),
            ("::ffff:198.51.100.7", "by=10.0.0.1;for=\"[::ffff:198.51.100.7]:1\""),
        ] {
            assert_eq!(from("10.0.0.1", &[("x-forwarded-for", said)]), CLIENT);
            assert_eq!(from("10.0.0.1", &[("forwarded", standard)]), CLIENT);
        }
        assert_eq!(from("10.0.0.1", &[("x-forwarded-for", "[2001:db8::1]:4711")]), "2001:db8::1");
        assert_eq!(from("10.0.0.1", &[("forwarded", "for=\"[2001:db8::1]\"")]), "2001:db8::1");
    }
}
