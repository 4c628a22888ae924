//! Which PEM can be used, on certificates and keys made for the test.

use super::*;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["web.test".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    params.not_after = rcgen::date_time_ymd(2027, 1, 2);
    params
}

fn made(name: &str, key: &KeyPair) -> String {
    params(name).self_signed(key).unwrap().pem()
}

#[test]
fn a_certificate_and_its_key_are_taken_whatever_the_algorithm() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let chain = certificates(&made("a", &pair)).unwrap();
        let key = key(&pair.serialize_pem()).unwrap();
        assert_eq!(key.expose(), pair.serialize_der());
        assert!(client(chain, key).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn the_facts_of_a_certificate_are_those_in_it() {
    let pair = KeyPair::generate().unwrap();
    let der = certificates(&made("partner, client", &pair))
        .unwrap()
        .remove(0);
    let facts = Facts::of(&der).unwrap();
    assert_eq!(facts.subject, "CN=partner, client");
    assert_eq!(facts.issuer, facts.subject);
    assert_eq!(facts.validity.not_before, UnixMs(1_767_312_000_000));
    assert_eq!(facts.validity.not_after, UnixMs(1_798_848_000_000));
    assert_eq!(facts.sha256.len(), 64);
    assert_eq!(facts.sha256, hex(&Sha256::digest(&der)));
    let long = made(&"x".repeat(2_000), &pair);
    let facts = Facts::of(&certificates(&long).unwrap()[0]).unwrap();
    assert!(facts.subject.len() <= MAX_NAME_BYTES, "{}", facts.subject);
    assert_eq!(Facts::of(b"nothing"), None);
    assert_eq!(Facts::of(&[der.as_slice(), &[0]].concat()), None);
}

#[test]
fn a_chain_keeps_its_order_and_has_a_bound() {
    let pair = KeyPair::generate().unwrap();
    let all: Vec<_> = (0..11).map(|n| made(&n.to_string(), &pair)).collect();
    let chain = certificates(&all[..10].concat()).unwrap();
    let subjects = chain.iter().map(|der| Facts::of(der).unwrap().subject);
    let expected = (0..10).map(|n| format!("CN={n}"));
    assert_eq!(subjects.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(certificates(&all.concat()), Err(Unfit::TooMany));
    assert_eq!(trusted(&all.concat()), Err(Unfit::TooMany));
    assert_eq!(trusted(&all[..10].concat()).unwrap(), chain);
}

#[test]
fn what_is_not_a_certificate_is_named() {
    let pair = KeyPair::generate().unwrap();
    let good = made("a", &pair);
    let bad_base64 = good.replacen("MII", "M!I", 1);
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = good.split_once("-----END").unwrap().0;
    let long = format!("{}{good}", " ".repeat(MAX_PEM_BYTES));
    for (pem, unfit) in [
        ("", Unfit::NoCertificate),
        ("hello", Unfit::NoCertificate),
        (&pair.serialize_pem(), Unfit::NoCertificate),
        (&bad_base64, Unfit::NotPem),
        (cut, Unfit::NotPem),
        (not_der, Unfit::Unreadable(1)),
        (&format!("{good}{not_der}"), Unfit::Unreadable(2)),
        (&long, Unfit::TooLarge(long.len())),
    ] {
        assert_eq!(certificates(pem), Err(unfit), "{pem}");
        assert_eq!(trusted(pem), Err(unfit), "{pem}");
    }
}

#[test]
fn what_is_not_a_usable_key_is_named() {
    let pair = KeyPair::generate().unwrap();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let former = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let long = " ".repeat(MAX_PEM_BYTES + 1);
    for (pem, unfit) in [
        ("", Unfit::NoKey),
        (&made("a", &pair), Unfit::NoKey),
        (encrypted, Unfit::EncryptedKey),
        (former, Unfit::EncryptedKey),
        (
            "-----BEGIN PRIVATE KEY-----\nA!\n-----END PRIVATE KEY-----\n",
            Unfit::NotPem,
        ),
        (&long, Unfit::TooLarge(long.len())),
    ] {
        assert_eq!(key(pem).err(), Some(unfit), "{pem}");
    }
    let chain = certificates(&made("a", &pair)).unwrap();
    let other = key(&KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let refused = client(chain.clone(), other).err();
    assert_eq!(refused, Some(Pair::Key(Unfit::OtherKey)));
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let refused = client(chain, key(nonsense).unwrap()).err();
    assert_eq!(refused, Some(Pair::Key(Unfit::UnusableKey)));
}
