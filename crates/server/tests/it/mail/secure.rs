//! A real mail server that wants TLS and an account.

use std::path::PathBuf;

use erp_testkit::{MailServer, TestApp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use super::{until, working};

/// Certificate, key and authority of `localhost`, as files.
fn certificates(name: &str) -> [PathBuf; 3] {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &ca).unwrap();
    let texts = [certificate.pem(), key.serialize_pem(), ca.pem()];
    let file =
        |part: &str| std::env::temp_dir().join(format!("erp-mail-{name}-{part}-{}.pem", std::process::id()));
    let files = ["certificate", "key", "authority"].map(file);
    files.iter().zip(texts).for_each(|(file, text)| std::fs::write(file, text).unwrap());
    files
}

async fn post(app: &TestApp) {
    let letter = json!({"template": "plain", "to": "bob@example.com", "subject": "Hello", "what": "Hello"});
    app.alice().post("/test/letters", letter).await.assert(204);
}

#[tokio::test]
async fn mail_goes_over_tls_with_the_account_of_the_settings() {
    if !MailServer::is_installed("mails over TLS") {
        return;
    }
    for tls in ["starttls", "tls"] {
        let [certificate, key, authority] = certificates(tls);
        let mut server = MailServer::with(json!({
            "tls": tls, "certificate": certificate, "key": key, "account": ["erp", "kR4-vX9_mT2"]
        }));
        let port = server.port();
        let builder = |password: &str| {
            working(port)
                .setting("SMTP_HOST", "localhost")
                .setting("SMTP_TLS", tls)
                .setting("OUTBOUND_CA_PATH", authority.to_str().unwrap())
                .setting("SMTP_USER", "erp")
                .setting("SMTP_PASSWORD", password)
                .name("localhost", "127.0.0.1".parse().unwrap())
        };
        let app = builder("kR4-vX9_mT2").start().await;
        post(&app).await;
        let mail: Value = server.mail().await;
        assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!("erp")), "{tls}: {mail}");
        until(&app, "select count(*) = 1 from mails where state = 'sent'").await;
        app.finish().await;
        // A wrong password is the operator's to mend: mails wait, and nobody is suppressed.
        let app = builder("wrong").start().await;
        app.expect_errors();
        post(&app).await;
        until(&app, "select count(*) = 1 from mails where state = 'queued' and error like 'auth 535%'").await;
        until(&app, "select count(*) = 0 from mail_suppressions").await;
        until(&app, "select count(*) = 1 from job_scheduled where kind = 'mail.send'").await;
        app.finish().await;
        [certificate, key, authority].iter().for_each(|file| drop(std::fs::remove_file(file)));
    }
}
