//! A sealed copy that someone else has made, or has been at.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use logarchivefs::error::{Error, Kind};
use logarchivefs::store::{
    ByteRange, DirStore, GetRequest, ListRequest, NewObject, Pin, Store, list_all, write_object,
};

use super::get;

fn put(dir: &Path, key: &str, body: &[u8]) {
    let metadata = BTreeMap::from([("x-amz-iv".to_owned(), "AA==".to_owned())]);
    let last_modified = (1_661_375_553, 500_000_000);
    let object = NewObject { key, metadata: &metadata, etag: Some("\"e-2\""), version_id: Some("v1"), last_modified };
    write_object(dir, &object, &mut &body[..]).unwrap();
}

async fn fails(store: &DirStore, key: &str) -> Error {
    store.get(&get(key, ByteRange::Whole)).await.unwrap_err()
}

async fn keys(store: &DirStore) -> Vec<String> {
    let listed = list_all(store, &ListRequest::default()).await.unwrap();
    listed.objects.into_iter().map(|e| String::from_utf8(e.key).unwrap()).collect()
}

#[tokio::test]
async fn what_the_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a/b.gz", b"body");
    let objects = dir.path().join("objects");
    let mut names: Vec<_> = fs::read_dir(&objects).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a%2Fb%2Egz", "a%2Fb%2Egz.meta.json"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&objects), mode(&objects.join(&names[0])), mode(&objects.join(&names[1]))), (0o700, 0o600, 0o600));
    let meta: serde_json::Value = serde_json::from_slice(&fs::read(objects.join(&names[1])).unwrap()).unwrap();
    let sha256 = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    let want = serde_json::json!({
        "key": "a/b.gz", "metadata": {"x-amz-iv": "AA=="}, "etag": "\"e-2\"", "version_id": "v1",
        "last_modified": "2022-08-24T21:12:33.5Z", "size": 4, "sha256": sha256,
    });
    assert_eq!(meta, want);

    let store = DirStore::open(dir.path(), "").unwrap();
    let object = store.get(&get("a/b.gz", ByteRange::Suffix(64))).await.unwrap();
    assert_eq!(object.last_modified, (1_661_375_553, 500_000_000));
    assert_eq!(object.pin(), Pin::Version { id: "v1".into(), etag: "e-2".into() });
    let pinned = GetRequest { pin: object.pin(), ..get("a/b.gz", ByteRange::Span(1..3)) };
    assert_eq!(store.get(&pinned).await.unwrap().bytes, "od");
    let listed = list_all(&store, &ListRequest::default()).await.unwrap().objects.remove(0);
    assert_eq!((listed.etag.as_str(), listed.last_modified, listed.size), ("e-2", (1_661_375_553, 500_000_000), 4));

    let metadata = BTreeMap::new();
    for (key, secs) in [("", 0), ("k", i64::MAX), (&*"k".repeat(1025), 0)] {
        let object = NewObject { key, metadata: &metadata, etag: None, version_id: None, last_modified: (secs, 0) };
        assert_eq!(write_object(dir.path(), &object, &mut &b""[..]).unwrap_err().kind(), Kind::Invalid);
    }
}

#[tokio::test]
async fn a_folder_that_is_no_sealed_copy() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(DirStore::open(dir.path(), "").err().unwrap().kind(), Kind::Config);
    assert_eq!(DirStore::open(dir.path().join("absent"), "").err().unwrap().kind(), Kind::Config);
    symlink("/", dir.path().join("objects")).unwrap();
    assert_eq!(DirStore::open(dir.path(), "").err().unwrap().kind(), Kind::Config);
    let gone = tempfile::tempdir().unwrap();
    fs::create_dir(gone.path().join("objects")).unwrap();
    let store = DirStore::open(gone.path(), "").unwrap();
    store.check().await.unwrap();
    fs::remove_dir(gone.path().join("objects")).unwrap();
    store.check().await.unwrap_err();
    store.list(&ListRequest::default()).await.unwrap_err();
}

#[tokio::test]
async fn damaged_objects_are_listed_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let damage = |key: &str, by: &dyn Fn(PathBuf, PathBuf)| {
        put(dir.path(), key, b"body");
        let body = dir.path().join("objects").join(key);
        by(body.clone(), body.with_extension("meta.json"));
    };
    put(dir.path(), "0good", b"body");
    damage("1longer", &|body, _| fs::write(body, b"body and more").unwrap());
    damage("2empty", &|body, _| fs::write(body, b"").unwrap());
    damage("3garbage", &|_, meta| fs::write(meta, b"{\"key\":\"\x1b\xff").unwrap());
    damage("4missing", &|_, meta| fs::remove_file(meta).unwrap());
    damage("5other", &|_, meta| fs::copy(dir.path().join("objects/0good.meta.json"), meta).map(drop).unwrap());
    damage("6huge", &|_, meta| fs::write(meta, vec![b' '; 300 * 1024]).unwrap());
    damage("7link", &|_, meta| {
        let moved = dir.path().join("elsewhere");
        fs::rename(&meta, &moved).unwrap();
        symlink(moved, meta).unwrap();
    });
    damage("8time", &|_, meta| {
        let text = fs::read_to_string(&meta).unwrap().replace("2022-08-24T", "yesterday ");
        fs::write(meta, text).unwrap();
    });
    // Names of metadata that are given twice, in one case or in two.
    for (key, again) in [("9twice", "x-amz-iv"), ("9twice2", "X-Amz-IV")] {
        damage(key, &|_, meta| {
            let text = fs::read_to_string(&meta).unwrap();
            fs::write(&meta, text.replace("\"AA==\"", &format!(r#""AA==","{again}":"AA==""#))).unwrap();
        });
    }
    let store = DirStore::open(dir.path(), "").unwrap();
    let names = keys(&store).await;
    assert_eq!(names.len(), 11, "{names:?}");
    assert_eq!(store.get(&get("0good", ByteRange::Whole)).await.unwrap().bytes, "body");
    for name in &names[1..] {
        let e = fails(&store, name).await;
        assert_eq!(e.kind(), Kind::Storage, "{e}");
        assert!(!e.to_string().contains('\x1b') && e.to_string().starts_with(name), "{e}");
    }
}

#[tokio::test]
async fn links_devices_and_strangers_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "good", b"body");
    let secret = dir.path().join("secret");
    fs::write(&secret, b"body").unwrap();
    let objects = dir.path().join("objects");
    let long = "L".repeat(300);
    put(dir.path(), &long, b"body");
    // A body that is a link, a body in a linked folder, a device to wait for.
    put(dir.path(), "link", b"body");
    fs::remove_file(objects.join("link")).unwrap();
    symlink(&secret, objects.join("link")).unwrap();
    let real = objects.join(format!("{}+", "L".repeat(200)));
    let linked = objects.join(format!("{}+", "M".repeat(200)));
    symlink(&real, &linked).unwrap();
    put(dir.path(), "pipe", b"body");
    fs::remove_file(objects.join("pipe")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(objects.join("pipe")).status().unwrap().success());
    for stranger in ["README.txt", ".DS_Store", ".tmp-0123", "%2e", "short+", "%2"] {
        fs::write(objects.join(stranger), b"x").unwrap();
    }
    fs::create_dir(objects.join("folder")).unwrap();
    fs::write(objects.join("folder/x"), b"x").unwrap();

    let store = DirStore::open(dir.path(), "").unwrap();
    assert_eq!(keys(&store).await, [&*long, "good"]);
    assert_eq!(store.get(&get(&long, ByteRange::Whole)).await.unwrap().bytes, "body");
    for key in ["link", "pipe"] {
        assert_eq!(fails(&store, key).await.kind(), Kind::Storage);
    }
    assert_eq!(fails(&store, &"M".repeat(300)).await.kind(), Kind::Storage);
    assert_eq!(fails(&store, &"N".repeat(300)).await.kind(), Kind::NotFound);
    for key in ["../secret", "folder/x", "README.txt"] {
        assert_eq!(fails(&store, key).await.kind(), Kind::NotFound);
    }
    assert_eq!(fails(&store, &"k".repeat(1025)).await.kind(), Kind::Invalid);
    // Nor does the writer follow a link.
    let object = NewObject {
        key: &"M".repeat(300),
        metadata: &BTreeMap::new(),
        etag: None,
        version_id: None,
        last_modified: (0, 0),
    };
    assert_eq!(write_object(dir.path(), &object, &mut &b"x"[..]).unwrap_err().kind(), Kind::Storage);
    put(dir.path(), "link", b"new");
    assert_eq!(fs::read(&secret).unwrap(), b"body");
}

#[tokio::test]
async fn a_new_listing_sees_what_was_added_replaced_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let long = "L".repeat(300);
    put(dir.path(), "a", b"1");
    put(dir.path(), &long, b"1");
    let store = DirStore::open(dir.path(), "").unwrap();
    assert_eq!(keys(&store).await, [&*long, "a"]);
    put(dir.path(), "b", b"1");
    put(dir.path(), &format!("{long}2"), b"1");
    assert_eq!(keys(&store).await, [&*long, &format!("{long}2"), "a", "b"]);
    put(dir.path(), "b", b"longer");
    let b = ListRequest::below("b");
    assert_eq!(list_all(&store, &b).await.unwrap().objects[0].size, 6);
    fs::remove_file(dir.path().join("objects/a")).unwrap();
    assert_eq!(keys(&store).await, [&*long, &format!("{long}2"), "b"]);
    // A listing under way is of one moment.
    let one = ListRequest { max_keys: Some(1), ..ListRequest::default() };
    let page = store.list(&one).await.unwrap();
    put(dir.path(), "c", b"1");
    let rest = store.list(&ListRequest { token: page.next, ..ListRequest::default() }).await.unwrap();
    assert_eq!(rest.objects.iter().map(|e| e.key.len()).collect::<Vec<_>>(), [301, 1]);
    for token in ["", "x", "k%2e", "k.", "é", "pp%"] {
        let req = ListRequest { token: Some(token.into()), ..ListRequest::default() };
        assert_eq!(store.list(&req).await.unwrap_err().kind(), Kind::Invalid, "{token}");
    }
}
