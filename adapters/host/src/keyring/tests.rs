use std::time::Duration;

use super::*;

/// A key of the id `id` whose secret begins with `secret`.
fn key(id: &str, secret: &str, rest: &str) -> String {
    let secret = format!("{secret} and sixteen more");
    format!(
        "[[key]]\nid = \"{id}\"\nsecret = \"{secret}\"\nroles = [\"client\", \"server\"]\n{rest}\n"
    )
}

fn fingerprint(secret: &str) -> countersign::Fingerprint {
    let secret = format!("{secret} and sixteen more");
    Key::mutual(secret.as_bytes()).unwrap().fingerprint().unwrap()
}

fn at(time: &str) -> SystemTime {
    time.parse::<Timestamp>().unwrap().into()
}

fn mistake(text: &str) -> (usize, String) {
    match Keyring::parse(text) {
        Err(KeyringError::Mistake { line, what }) => (line, what),
        other => panic!("{other:?}"),
    }
}

/// The keys for `key_id` at the time `when`, the one to prove with first.
fn candidates(
    keyring: &Keyring,
    key_id: &str,
    when: &str,
) -> Result<Vec<countersign::Fingerprint>, KeyRejection> {
    let request = KeyRequest::mutual(Role::Server, key_id, Some("peer"));
    let found = keyring.candidates_at(&request, at(when))?;
    let both = [Some(found.first()), found.second()].into_iter().flatten();
    Ok(both.map(|candidate| candidate.key().fingerprint().unwrap()).collect())
}

fn fingerprints(secrets: &[&str]) -> Vec<countersign::Fingerprint> {
    secrets.iter().map(|secret| fingerprint(secret)).collect()
}

#[test]
fn key_is_found_by_its_id_only() {
    let keyring = Keyring::parse(&(key("a", "one", "") + &key("b", "two", ""))).unwrap();
    assert_eq!((keyring.len(), keyring.is_empty()), (2, false));
    let now = "2026-06-01T00:00:00Z";
    assert_eq!(candidates(&keyring, "a", now), Ok(fingerprints(&["one"])));
    assert_eq!(candidates(&keyring, "c", now), Err(KeyRejection::Unknown));
    assert_eq!(candidates(&keyring, "", now), Err(KeyRejection::Unknown));
    assert_eq!(candidates(&keyring, "b", now), Ok(fingerprints(&["two"])));
}

#[test]
fn key_is_valid_from_not_before_until_not_after() {
    let times = "not_before = 2026-01-01T00:00:00Z\nnot_after = 2027-01-01T00:00:00+00:00";
    let keyring = Keyring::parse(&key("a", "one", times)).unwrap();
    for (when, valid) in [
        ("2025-12-31T23:59:59Z", false),
        ("2026-01-01T00:00:00Z", true),
        ("2026-12-31T23:59:59Z", true),
        ("2027-01-01T00:00:00Z", false),
    ] {
        let expected =
            if valid { Ok(fingerprints(&["one"])) } else { Err(KeyRejection::OutOfDate) };
        assert_eq!(candidates(&keyring, "a", when), expected, "{when}");
    }
}

#[test]
fn newer_of_two_valid_keys_comes_first() {
    let old = key("a", "old", "not_after = 2026-02-01T00:00:00Z");
    let new = key("a", "new", "not_before = 2026-01-01T00:00:00Z");
    for text in [old.clone() + &new, new + &old] {
        let keyring = Keyring::parse(&text).unwrap();
        assert_eq!(candidates(&keyring, "a", "2025-12-01T00:00:00Z"), Ok(fingerprints(&["old"])));
        assert_eq!(
            candidates(&keyring, "a", "2026-01-15T00:00:00Z"),
            Ok(fingerprints(&["new", "old"]))
        );
        assert_eq!(candidates(&keyring, "a", "2026-02-01T00:00:00Z"), Ok(fingerprints(&["new"])));
    }
}

#[test]
fn at_most_two_keys_of_an_id_are_valid_at_once() {
    let third = |rest: &str| key("a", "one", "") + &key("a", "two", "") + &key("a", "three", rest);
    let (line, what) = mistake(&third("not_before = 2030-01-01T00:00:00Z"));
    assert_eq!(line, 11);
    assert!(what.contains("`a`"), "{what}");
    // Three keys, but at most two at any time.
    let keys = key("a", "one", "not_after = 2026-01-01T00:00:00Z")
        + &key("a", "two", "")
        + &key("a", "three", "not_before = 2026-01-01T00:00:00Z");
    assert!(Keyring::parse(&keys).is_ok());
    assert!(Keyring::parse(&third("").replacen("\"a\"", "\"b\"", 1)).is_ok());
}

#[test]
fn key_is_refused_in_other_roles() {
    let text = key("a", "one", "").replace("\"client\", \"server\"", "\"server\"");
    let keyring = Keyring::parse(&text).unwrap();
    let now = at("2026-06-01T00:00:00Z");
    let ask = |role| keyring.candidates_at(&KeyRequest::mutual(role, "a", None), now).map(|_| ());
    assert_eq!(ask(Role::Server), Ok(()));
    assert_eq!(ask(Role::Client), Err(KeyRejection::WrongRole));
}

#[test]
fn unlisted_name_is_not_allowed_but_has_a_candidate() {
    let keyring = Keyring::parse(&key("a", "one", "names = [\"alice\", \"bob\"]")).unwrap();
    let now = SystemTime::now();
    let ask = |name| {
        let request = KeyRequest::mutual(Role::Server, "a", name);
        keyring.candidates_at(&request, now).unwrap().first().is_allowed()
    };
    for allowed in [Some("alice"), Some("bob"), None] {
        assert!(ask(allowed), "{allowed:?}");
    }
    for refused in [Some("carol"), Some("alic"), Some("alicee"), Some("")] {
        assert!(!ask(refused), "{refused:?}");
    }
}

#[test]
fn mistakes_are_reported_with_their_line() {
    let good = key("a", "one", "");
    for (text, line, what) in [
        (String::new(), 1, "[[key]]"),
        (good.replace("id = \"a\"", "id = \"a b\""), 2, "id"),
        (good.replace("id = \"a\"", "id = \"\""), 2, "id"),
        (good.replace("id = \"a\"\n", ""), 1, "id"),
        (good.replace("one and sixteen more", "fifteen-------x"), 3, "16 bytes"),
        (good.replace("\"one and sixteen more\"", "12345678901234567"), 3, "quotes"),
        (good.replace("\"client\", \"server\"", ""), 4, "roles"),
        (good.replace("\"client\"", "\"friend\""), 4, "each is"),
        (good.clone() + "names = []\n", 6, "names"),
        (good.clone() + "names = [\"a b\"]\n", 6, "names"),
        (good.clone() + "not_after = 2026-01-01T00:00:00\n", 6, "offset"),
        (good.clone() + "not_before = 2026-01-01\n", 6, "offset"),
        (good.clone() + "colour = \"red\"\n", 6, "unknown field"),
        (good.clone() + "[settings]\n", 6, "unknown field"),
        (good.clone() + "names = [\"x\"", 6, ""),
        (
            good.clone() + "not_before = 2026-01-01T00:00:00Z\nnot_after = 2026-01-01T00:00:00Z\n",
            7,
            "not_after",
        ),
    ] {
        let found = mistake(&text);
        assert_eq!(found.0, line, "{found:?} of\n{text}");
        assert!(found.1.contains(what), "{found:?} of\n{text}");
    }
}

#[test]
fn mistakes_never_show_a_secret() {
    let secret = "hunter2hunter2hunter2";
    let good = format!("[[key]]\nid = \"a\"\nsecret = \"{secret}\"\nroles = [\"client\"]\n");
    for bad in [
        good.replace(&format!("\"{secret}\""), secret),
        good.replace(&format!("\"{secret}\""), &format!("\"{secret}")),
        good.replace(&format!("\"{secret}\""), &format!("[\"{secret}\"]")),
        good.replace(&format!("secret = \"{secret}\""), &format!("secret \"{secret}\"")),
        good.replace("secret =", "secret = = "),
        good.replace("secret =", "secrte ="),
        good.replace("roles", "rules"),
        format!("\"{secret}\" = 1"),
        format!("[{secret}]"),
        format!("{good}[key.{secret}]"),
        format!("{good}[[key.{secret}]]"),
        format!("{good}{secret} = 1\n{secret} = 2"),
        format!("key = \"{secret}\""),
        format!("key = [\"{secret}\"]"),
        format!("{good}names = \"{secret}\""),
        format!("{good}not_after = \"{secret}\""),
        good.replace("[\"client\"]", &format!("[\"{secret}\"]")),
        good.replace("[\"client\"]", &format!("\"{secret}\"")),
        good.replace("\"a\"", &format!("[\"{secret}\"]")),
        good.replace("\"a\"", &format!("\"{secret} \"")),
    ] {
        let found = mistake(&bad);
        assert!(!found.1.contains("hunter2"), "{found:?}");
    }
    let keyring = Keyring::parse(&good).unwrap();
    assert!(!format!("{keyring:?}").contains("hunter2"));
}

#[test]
fn keyring_file_readable_by_others_is_refused() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    let path = std::env::temp_dir().join(format!("countersign-keyring-{}", std::process::id()));
    fs::write(&path, key("a", "one", "")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Keyring::read(&path), Err(KeyringError::File(SecretError::Exposed(..)))));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Keyring::read(&path).unwrap().len(), 1);
    fs::write(&path, b"# \n\xff").unwrap();
    assert!(matches!(Keyring::read(&path), Err(KeyringError::Mistake { line: 2, .. })));
    fs::remove_file(&path).unwrap();
}

#[test]
fn keyring_of_one_key_allows_every_role_and_name() {
    let key = Key::mutual(b"sixteen bytes or more").unwrap();
    let keyring = Keyring::of_one(KeyId::new("k").unwrap(), key);
    let later = SystemTime::now() + Duration::from_secs(1 << 30);
    for role in [Role::Client, Role::Server] {
        let request = KeyRequest::mutual(role, "k", Some("any-name"));
        assert!(keyring.candidates_at(&request, later).is_ok());
    }
}
