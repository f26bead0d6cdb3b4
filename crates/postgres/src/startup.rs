//! The start of a session: who we are, how we prove it, and what the server tells about itself.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio_postgres::Config;
use tokio_postgres::config::ChannelBinding as Wanted;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc5912;

use super::batch::Batch;
use super::connect::{Connector, Target};
use super::error::ServerError;
use super::inbox::Inbox;
use super::socket::Socket;
use super::{Cancel, Cause, TransactionStatus, Wire, WireError};

/// A look at each session before its first use: a pooler may have dropped a setting that the session asked for, and a
/// role may bring one of its own. A session that fails it is closed, and opening it fails with
/// [`WireError::Unfit`](crate::WireError::Unfit).
pub trait Inspection: Send + Sync {
    /// A statement that returns one row, and its parameters, all of them texts.
    fn question(&self) -> (&'static str, Vec<String>);

    /// Judges the values of that row as texts; NULL is an empty one.
    ///
    /// # Errors
    /// How the session differs from what it must be: goes on after "the database".
    fn judge(&self, answer: &[String]) -> Result<(), Cause>;
}

impl Wire {
    /// Opens a session at an address, and looks at it.
    ///
    /// # Errors
    /// What the server refuses us for, that it is no PostgreSQL, or that the session is not what it must be.
    pub(super) async fn open(connector: &Connector, target: Target) -> Result<Self, WireError> {
        let password = connector.password();
        let mut wire = match Self::sign_in(connector, &target, password.as_deref()).await {
            Ok(wire) => wire,
            Err(error) => match connector.other_password(&error, password).await {
                Some(other) => Self::sign_in(connector, &target, Some(&other)).await?,
                None => return Err(error),
            },
        };
        if let Some(inspection) = &connector.inspection {
            wire.inspect(inspection.as_ref()).await?;
        }
        Ok(wire)
    }

    async fn sign_in(
        connector: &Connector,
        target: &Target,
        password: Option<&[u8]>,
    ) -> Result<Self, WireError> {
        let (socket, binding) = connector.socket(target).await?;
        Self::start(socket, connector, target.clone(), password, binding).await
    }

    /// Starts a session on a fresh stream. `binding` is the hash of the server's certificate, with TLS.
    ///
    /// # Errors
    /// What the server refuses us for, or that it is no PostgreSQL.
    pub(super) async fn start(
        socket: Socket,
        connector: &Connector,
        target: Target,
        password: Option<&[u8]>,
        binding: Option<Vec<u8>>,
    ) -> Result<Self, WireError> {
        let cancel = Cancel { target, process_id: 0, secret_key: 0 };
        let mut wire = Self {
            socket,
            out: BytesMut::with_capacity(1024),
            inbox: Inbox::new(),
            awaited: 1,
            status: TransactionStatus::Idle,
            broken: false,
            prepared: HashMap::new(),
            naming: connector.naming,
            plans: Arc::clone(&connector.plans),
            batch: Batch::default(),
            generation: connector.generation(),
            used: connector.idleness.now(),
            cancel: Arc::new(cancel),
        };
        let user = match connector.config.get_user() {
            Some(user) => user.to_owned(),
            None => whoami::username().map_err(|error| WireError::Session(error.into()))?,
        };
        wire.introduce(&connector.config, &user)?;
        wire.authenticate(&connector.config, (&user, password), binding).await?;
        wire.read_keys().await?;
        wire.inbox.limits = connector.limits;
        Ok(wire)
    }

    fn introduce(&mut self, config: &Config, user: &str) -> Result<(), WireError> {
        let optional = [
            ("database", config.get_dbname()),
            ("options", config.get_options()),
            ("application_name", config.get_application_name()),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let all = [("client_encoding", "UTF8"), ("user", user)].into_iter().chain(optional);
        Ok(frontend::startup_message(all, &mut self.out)?)
    }

    /// Sends what stands in `out`, and reads one message.
    async fn ask(&mut self) -> Result<Message, WireError> {
        self.flush().await?;
        self.inbox.consume();
        let message = self.message().await?;
        match self.inbox.parse(&message)? {
            Message::ErrorResponse(body) => {
                self.broken = true;
                Err(WireError::Server(Box::new(ServerError::from_fields(body.fields())?)))
            }
            message => Ok(message),
        }
    }

    async fn authenticate(
        &mut self,
        config: &Config,
        (user, password): (&str, Option<&[u8]>),
        binding: Option<Vec<u8>>,
    ) -> Result<(), WireError> {
        let password = || password.ok_or_else(|| refused("the server wants a password, and there is none"));
        let bound = matches!(config.get_channel_binding(), Wanted::Require);
        match self.ask().await? {
            Message::AuthenticationSasl(body) => {
                self.scram(config, password()?, &body, binding).await?;
            }
            _ if bound => return Err(refused("the server did not use channel binding")),
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                frontend::password_message(password()?, &mut self.out)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(user.as_bytes(), password()?, body.salt());
                frontend::password_message(hash.as_bytes(), &mut self.out)?;
            }
            _ => return Err(refused("the server wants a way to sign in that is not supported")),
        }
        match self.ask().await? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(WireError::Protocol("no end to the signing in")),
        }
    }

    /// SCRAM-SHA-256 (RFC 7677), bound to the TLS channel where both sides can (RFC 5929).
    async fn scram(
        &mut self,
        config: &Config,
        password: &[u8],
        offered: &AuthenticationSaslBody,
        binding: Option<Vec<u8>>,
    ) -> Result<(), WireError> {
        let offered: Vec<&str> = offered
            .mechanisms()
            .collect()
            .map_err(|_| WireError::Protocol("mechanisms that cannot be read"))?;
        let binding = binding.filter(|_| config.get_channel_binding() != Wanted::Disable);
        let (mechanism, binding) = match binding {
            Some(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash))
            }
            Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if !offered.contains(&mechanism) {
            return Err(refused("the server wants a way to sign in that is not supported"));
        }
        if mechanism != SCRAM_SHA_256_PLUS && config.get_channel_binding() == Wanted::Require {
            return Err(refused("the server did not use channel binding"));
        }
        let mut scram = ScramSha256::new(password, binding);
        frontend::sasl_initial_response(mechanism, scram.message(), &mut self.out)?;
        let Message::AuthenticationSaslContinue(body) = self.ask().await? else { return Err(OUT_OF_TURN) };
        scram.update(body.data()).map_err(|error| WireError::Session(error.into()))?;
        frontend::sasl_response(scram.message(), &mut self.out)?;
        let Message::AuthenticationSaslFinal(body) = self.ask().await? else { return Err(OUT_OF_TURN) };
        // The server has proven that it knows the password, too.
        scram.finish(body.data()).map_err(|error| WireError::Session(error.into()))
    }

    /// Reads up to the first ReadyForQuery.
    async fn read_keys(&mut self) -> Result<(), WireError> {
        while self.awaited > 0 {
            match self.ask().await? {
                Message::BackendKeyData(body) => {
                    let cancel = Arc::make_mut(&mut self.cancel);
                    (cancel.process_id, cancel.secret_key) = (body.process_id(), body.secret_key());
                }
                Message::ReadyForQuery(_) => self.awaited -= 1,
                _ => return Err(OUT_OF_TURN),
            }
        }
        Ok(())
    }

    /// Asks whether the session is what it was asked to be.
    async fn inspect(&mut self, inspection: &dyn Inspection) -> Result<(), WireError> {
        let naming = std::mem::take(&mut self.naming); // once is enough
        let (sql, values) = inspection.question();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        self.begin()?;
        self.own_row(sql, &values)?;
        let reply = self.exchange(&mut false).await?;
        let answer = self.rows(&reply).first_texts();
        self.naming = naming;
        inspection.judge(&answer).map_err(WireError::Unfit)
    }
}

const OUT_OF_TURN: WireError = WireError::Protocol("a message out of turn");

fn refused(why: &'static str) -> WireError {
    WireError::Session(why.into())
}

/// tls-server-end-point: the hash of the certificate with the algorithm of its signature, SHA-256 at least (RFC 5929,
/// section 4.1). `None` for algorithms without a hash of their own.
pub(super) fn channel_binding(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.oid {
        rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256 => &SHA256,
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_384 => &SHA384,
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_512 => &SHA512,
        _ => return None,
    };
    Some(digest(algorithm, certificate).as_ref().to_vec())
}
