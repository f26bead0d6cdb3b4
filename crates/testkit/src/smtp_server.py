"""A mail server for tests: says `port N`, then one line of JSON for each mail that it has taken.

Addresses decide what it says: 550@… at RCPT is answered 550 5.1.1, 450@… 450 4.2.0, content@… 554 5.6.0 after the content, and
relay@… 554 5.7.1.
"""

import asyncio
import base64
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

options = json.loads(sys.argv[1])


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        said = {
            "550": "550 5.1.1 no such user",
            "552": "552 5.2.2 mailbox full",
            "450": "450 4.2.0 greylisted, come again",
            "relay": "554 5.7.1 relay access denied",
        }.get(address.split("@")[0])
        if said:
            return said
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server, session, envelope):
        if envelope.rcpt_tos[0].startswith("content@"):
            return "554 5.6.0 it is not wanted"
        say(
            {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "options": envelope.mail_options,
                "content": base64.b64encode(envelope.original_content).decode(),
                "tls": server.transport.get_extra_info("ssl_object") is not None,
                "login": session.auth_data if isinstance(session.auth_data, str) else None,
                "peer": session.peer[1],
            }
        )
        await asyncio.sleep(options.get("pause", 0))
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    wanted = options["account"]
    given = [data.login.decode(), data.password.decode()]
    if given == wanted:
        return AuthResult(success=True, auth_data=given[0])
    return AuthResult(success=False, handled=False)


def say(line):
    print(json.dumps(line), flush=True)


async def main():
    context = None
    if options.get("certificate"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["certificate"], options["key"])
    starttls = options["tls"] == "starttls"

    def serve():
        account = options.get("account")
        return SMTP(
            Handler(),
            hostname="mail.test",
            loop=loop,
            tls_context=context if starttls else None,
            require_starttls=starttls,
            authenticator=authenticate if account else None,
            auth_required=bool(account),
            auth_require_tls=False,
            enable_SMTPUTF8=False,
        )

    loop = asyncio.get_running_loop()
    wrapped = context if options["tls"] == "tls" else None
    server = await loop.create_server(serve, "127.0.0.1", options.get("port", 0), ssl=wrapped)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
