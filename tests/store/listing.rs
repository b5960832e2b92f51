//! Listings as our parser reads them, against what the SDK's makes of the same bytes.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::EncodingType;
use logarchivefs::error::Kind;
use logarchivefs::store::{Entry, ListRequest, Page, S3Options, S3Store, Store};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::common::s3::{ACCESS_KEY, BUCKET, REGION, Reply, SECRET_KEY, Server};
use super::options;

/// The SDK as it is.
fn client(server: &Server) -> Client {
    let config = aws_sdk_s3::Config::builder().behavior_version(BehaviorVersion::latest()).force_path_style(true);
    let config = config.region(Region::new(REGION)).endpoint_url(server.endpoint());
    let keys = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    Client::from_conf(config.credentials_provider(keys).build())
}

/// A page made of what the SDK says; `None` if something is amiss.
async fn by_the_sdk(client: &Client) -> Option<Page> {
    let out = client.list_objects_v2().bucket(BUCKET).send().await.ok()?;
    let url = out.encoding_type() == Some(&EncodingType::Url);
    let key = |key: Option<&str>| {
        let key = if url { percent_decode_str(&key?.replace('+', " ")).collect() } else { key?.as_bytes().to_vec() };
        key.strip_prefix(b"p/").map(<[u8]>::to_vec)
    };
    let mut page = Page::default();
    for object in out.contents() {
        let tag = object.e_tag().unwrap_or_default();
        page.objects.push(Entry {
            key: key(object.key())?,
            size: object.size()?.try_into().ok()?,
            etag: tag.strip_prefix('"').and_then(|e| e.strip_suffix('"')).unwrap_or(tag).to_owned(),
            last_modified: object.last_modified().map_or((0, 0), |t| (t.secs(), t.subsec_nanos())),
            storage_class: object.storage_class().map(|c| c.as_str().to_owned()),
        });
    }
    for prefix in out.common_prefixes() {
        page.prefixes.push(key(prefix.prefix())?);
    }
    let entries = page.objects.len() + page.prefixes.len();
    if out.key_count().is_some_and(|count| usize::try_from(count) != Ok(entries)) {
        return None;
    }
    page.next = match (out.is_truncated()?, out.next_continuation_token().unwrap_or_default()) {
        (false, _) => None,
        (true, "") => return None,
        (true, token) => Some(token.to_owned()),
    };
    Some(page)
}

/// Text as XML may write it: plain, by name, by number.
fn written(text: &str, how: usize) -> String {
    let each = text.chars().enumerate().map(|(n, c)| match (c, (how + n) % 5) {
        ('<', _) => "&lt;".into(),
        ('&', _) => "&amp;".into(),
        ('"', 0..3) => "&quot;".into(),
        ('\'', 0) => "&apos;".into(),
        ('>', 0..4) => "&gt;".into(),
        (c, 0) if !c.is_whitespace() => format!("&#{};", u32::from(c)),
        (c, 1) if c.is_ascii_punctuation() => format!("&#x{:X};", u32::from(c)),
        (c, _) => c.to_string(),
    });
    each.collect()
}

/// An element, or its absence, or two unusual forms of it.
fn element(name: &'static str, text: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    prop_oneof![
        80 => (text, 0usize..5).prop_map(move |(text, how)| format!("<{name}>{}</{name}>", written(&text, how))),
        1 => Just(String::new()),
        1 => Just(format!("<{name}/>")),
        1 => Just(format!("<{name} a=\"b\" ></{name}\n>")),
    ]
    .boxed()
}

fn key() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        "[a-z0-9/:._-]{1,12}",
        Just("%2B".to_owned()),
        Just("%C3%A9%".to_owned()),
        Just("%zz%4".to_owned()),
        "[ +&<>\"'é日]{1,3}"
    ];
    // Some are from elsewhere.
    (prop_oneof![60 => Just("p/"), 1 => Just("q/")], prop::collection::vec(pieces, 1..6))
        .prop_map(|(p, rest)| format!("{p}{}", rest.concat().trim_end()))
}

fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        (0i64..4_000_000_000, 0u32..1000).prop_map(|(s, ms)| {
            let at = logarchivefs::key::Time::from_unix(s, 0).unwrap().in_key();
            format!("{at}.{ms:03}Z")
        }),
        Just("2022-08-24T21:12:33Z".to_owned()),
        Just("2022-08-24T21:12:33.123456789Z".to_owned()),
        Just("2024-02-29T23:59:59+02:00".to_owned()),
        Just("1969-12-31T23:59:59.5Z".to_owned()),
    ]
}

fn entry() -> impl Strategy<Value = String> {
    let size = prop_oneof![
        40 => any::<u32>().prop_map(|n| n.to_string()),
        1 => prop::sample::select(vec!["-1", "x", " 1", "9223372036854775807", "9223372036854775808"]).prop_map(str::to_owned),
    ];
    let tag = prop_oneof!["\"[0-9a-f]{32}(-[0-9]{1,3})?\"", "\"?[a-z]{0,3}\"?"];
    let class = prop::sample::select(vec!["STANDARD", "GLACIER", "NEW_ONE", ""]).prop_map(str::to_owned);
    let owner = Just("<Owner><ID>x</ID><Size>7</Size><Key>no</Key></Owner>".to_owned());
    let members = (element("Key", key()), element("LastModified", time()), element("ETag", tag));
    let more =
        (element("Size", size), element("StorageClass", class), prop_oneof![3 => Just(String::new()), 1 => owner]);
    (members, more, any::<bool>()).prop_map(|((key, time, tag), (size, class, owner), turned)| {
        let mut all = [key, time, tag, size, owner, class];
        if turned {
            all.reverse();
        }
        format!("<Contents>{}</Contents>", all.join("\n "))
    })
}

fn listing() -> impl Strategy<Value = String> {
    let prefix = element("Prefix", key()).prop_map(|prefix| format!("<CommonPrefixes>{prefix}</CommonPrefixes>"));
    let entries = prop::collection::vec(prop_oneof![6 => entry(), 1 => prefix], 0..9);
    let end = prop::sample::select(vec!["false", "true", "false", "true", "TRUE"]).prop_map(str::to_owned);
    let encoding = prop::sample::select(vec!["url", "url", "none"]).prop_map(str::to_owned);
    let head = (
        element("IsTruncated", end),
        element("NextContinuationToken", "[a-z/+=&]{1,20}"),
        element("EncodingType", encoding),
    );
    let count = prop_oneof![8 => Just(0i32), 1 => Just(1), 1 => Just(-1)];
    (entries, head, count, any::<bool>()).prop_map(|(entries, (end, token, encoding), off, first)| {
        let count = entries.len() as i32 + off;
        let head = format!("<Name>b</Name><Prefix>p/</Prefix><KeyCount>{count}</KeyCount>{end}{token}{encoding}");
        let all = if first { head + &entries.concat() } else { entries.concat() + &head };
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{all}</ListBucketResult>\n")
    })
}

/// Whatever a listing says, and however it is written: the same page as the SDK's parser makes of it, or an error where that
/// sees something amiss.
#[test]
fn a_listing_is_read_as_the_sdk_reads_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let sdk = client(&server);
    let ours = runtime.block_on(S3Store::open(S3Options { prefix: "p/".into(), ..options(&server) })).unwrap();
    let good = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    runner
        .run(&listing(), |xml| {
            let body = xml.clone();
            server.set_hook(move |_| Some(Reply::Canned { status: 200, headers: vec![], body: body.clone().into() }));
            let (want, got) =
                runtime.block_on(async { (by_the_sdk(&sdk).await, ours.list(&ListRequest::default()).await) });
            match (want, got) {
                (Some(want), Ok(got)) => {
                    good.set(good.get() + usize::from(got.objects.len() > 1));
                    prop_assert_eq!(got, want);
                }
                (None, Err(e)) => prop_assert_eq!(e.kind(), Kind::Storage),
                (want, got) => prop_assert!(false, "{want:?} and {got:?} of {xml}"),
            }
            Ok(())
        })
        .unwrap();
    assert!(good.get() > 50, "only {} of the listings were good: the test shows little", good.get());
}

/// What only our parser takes as it is meant, and what it refuses.
#[tokio::test]
async fn what_xml_allows_and_what_it_does_not() {
    let server = Server::start();
    let store = S3Store::open(options(&server)).await.unwrap();
    let page = |key: &str| {
        format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>{key}</Key><Size>1</Size></Contents></ListBucketResult>"
        )
    };
    let ask = async |body: String| {
        server.set_hook(move |_| Some(Reply::Canned { status: 200, headers: vec![], body: body.clone().into() }));
        store.list(&ListRequest::default()).await.map(|page| page.objects[0].key.clone())
    };
    assert_eq!(ask(page("a<![CDATA[<&]]>b")).await.unwrap(), b"a<&b");
    assert_eq!(ask(page("a<!-- c -->b")).await.unwrap(), b"ab");
    for (body, word) in [
        (page("a&b;"), "entity"),
        (page("a&#0;"), "entity"),
        (page("a<b/>"), "within a text"),
        (page("</Key><Key>a"), "ok"),
        (format!("<!DOCTYPE x [<!ENTITY b \"c\">]>{}", page("a")), "document type"),
        (format!("<x/>{}", page("a")), "another document"),
        (format!("{0}{0}", page("a")), "another document"),
        (page("a").replace("</Contents>", ""), "well-formed"),
        (page("a").replace("<Contents>", "<Contents><Contents>"), "well-formed"),
        (page("a\u{fffd}").replace('\u{fffd}', "&#xD800;"), "entity"),
    ] {
        match ask(body.clone()).await {
            Ok(key) => assert_eq!((word, &*key), ("ok", &b"a"[..]), "{body}"),
            Err(e) => assert!(e.kind() == Kind::Storage && e.to_string().contains(word), "{word}: {e}"),
        }
    }
}
