"""The exchange of messages that pywinrm's Protocol makes: signs in by one of the ways, seals over http, reads replies.

It takes the place of pywinrm's own Transport, which opens connections, asks the environment, and repeats sign-ins as it
likes. Over http it never sends or accepts a body that is not sealed. Over https, TLS protects the bodies.

    POST (empty) ──► 401, what is offered ──► POST + token ──► 401 + token ──► … ──► 200: signed in

Basic and a client certificate need no tokens: the first request that carries a body is what signs in.
"""

from __future__ import annotations

import base64
import binascii
import re
from http.client import BadStatusLine
from typing import Final
from urllib.parse import urlsplit

import requests
import spnego
from requests.auth import AuthBase
from winrm.encryption import Encryption
from winrm.exceptions import WinRMTransportError

from snapshotd.hyperv import contexts, kerberos
from snapshotd.hyperv.credentials import Credential
from snapshotd.hyperv.host_tls import look
from snapshotd.hyperv.no_answer import causes
from snapshotd.hyperv.one_connection import REFUSED, OneConnectionAdapter
from snapshotd.hyperv.transport import Broken, RequestRefused, SignInRefused
from snapshotd.hyperv.ways import Method, Way

_HEADERS: Final = {"Content-Type": "application/soap+xml;charset=UTF-8", "User-Agent": "Python WinRM client"}
_MUTUAL: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
"""What a request says in Authorization when TLS has shown who sends it [documented]."""
_SCHEMES: Final = {
    Method.NTLM: "Negotiate",
    Method.KERBEROS: "Negotiate",
    Method.BASIC: "Basic",
    Method.CREDSSP: "CredSSP",
}
_ENABLE: Final = {
    "Negotiate": "Set-Item WSMan:\\localhost\\Service\\Auth\\Negotiate $true",
    "Basic": "Set-Item WSMan:\\localhost\\Service\\Auth\\Basic $true",
    "CredSSP": "Enable-WSManCredSSP -Role Server",
}
_SCHEME: Final = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9-]*)(?=\s*(?:,|$)|\s+[^\s=,])")
"""A scheme in WWW-Authenticate: a word that stands alone or before its parameters, and is no parameter itself."""
_QUOTED: Final = re.compile(r'"(?:\\.|[^"\\])*+"?', re.DOTALL)
"""A parameter's value, which may hold anything."""
_LONGEST_OFFER: Final = 200
"""How many characters of what a host says of itself an error shows."""
_TLS_RECORD: Final = "\x15\x03"
"""How an alert of TLS begins."""


class _SealedBy(AuthBase):
    """What seals and opens the bodies of a session, as pywinrm's Encryption wants it. Adds nothing to a request."""

    def __init__(self, context: spnego.ContextProxy) -> None:
        self._context = context

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request

    def wrap_winrm(self, _host: str, message: bytes) -> tuple[bytes, bytes]:
        """Return a message sealed, and its signature."""
        sealed = self._context.wrap_winrm(message)
        return sealed.data, sealed.header

    def unwrap_winrm(self, _host: str, message: bytes, signature: bytes) -> bytes:
        """Return a sealed message opened."""
        return self._context.unwrap_winrm(signature, message)


class Exchange:
    """The messages of one session.

    Args:
        endpoint: the URL.
        way: how to sign in.
        credential: who signs in.
        adapter: its one connection.
    """

    def __init__(self, endpoint: str, way: Way, credential: Credential, adapter: OneConnectionAdapter) -> None:
        self._endpoint = endpoint
        self._place = urlsplit(endpoint).netloc
        self._host = urlsplit(endpoint).hostname or ""
        self._way = way
        self._credential = credential
        self._adapter = adapter
        self._session: requests.Session | None = None
        self._encryption: Encryption | None = None

    def build_session(self) -> requests.Session:
        """Sign in, if that was not done yet; return the session. Raises TransportError, NoHostAnswer."""
        if self._session is None:
            session = requests.Session()
            # Only the one connection is allowed: no other scheme, no redirect, no proxy, nothing of the environment.
            session.trust_env = False
            session.adapters.clear()
            session.mount(f"{self._way.scheme}://", self._adapter)
            session.headers.update(_HEADERS)
            self._session = session
            self._sign_in(session)
        return self._session

    def close_session(self) -> None:
        """Close the connection."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def send_message(self, message: str | bytes) -> bytes:
        """Send an envelope; return the reply's. Raises WinRMTransportError for a fault, and TransportError."""
        session = self.build_session()
        text = message.encode() if isinstance(message, str) else message
        if self._encryption is None and not self._way.https:
            raise Broken("the sign-in failed, so nothing can be sealed, and nothing is sent")
        if self._encryption is not None:
            request = self._encryption.prepare_encrypted_request(session, self._endpoint, text)
        else:
            request = session.prepare_request(requests.Request("POST", self._endpoint, data=text))
        response = session.send(request)
        if response.status_code >= 400:
            said = self._opened(response) if response.content else b""
            raise WinRMTransportError("http", response.status_code, said.decode("utf-8", "replace"))
        return self._opened(response)

    def _opened(self, response: requests.Response) -> bytes:
        if not response.content:
            raise Broken(f"the host answered HTTP {response.status_code} with an empty body")
        if self._encryption is None:
            return response.content
        # pywinrm would accept a reply that is not sealed, which anybody on the way could write.
        if self._encryption.protocol_string.decode() not in response.headers.get("Content-Type", ""):
            raise Broken(f"the host answered HTTP {response.status_code} with a body that is not sealed")
        try:
            text: bytes = self._encryption.parse_encrypted_response(response)
        except Exception as error:
            # What pywinrm and spnego let through (IndexError, struct's and NTLM's own).
            raise Broken("the host answered with a sealed body that cannot be opened") from error
        return text

    def _sign_in(self, session: requests.Session) -> None:
        if self._way.method is Method.CERTIFICATE:
            session.headers["Authorization"] = _MUTUAL
            return
        scheme = _SCHEMES[self._way.method]
        response = self._first(session)
        if response.status_code != 401:
            raise Broken(self._no_winrm(response))
        offered = _offered(response)
        if scheme not in offered:
            schemes = (", ".join(offered) or "nothing")[:_LONGEST_OFFER]
            raise RequestRefused(f"{self._not_offered(scheme)}; it offers {schemes}. {_allow(scheme)}")
        if self._way.method is Method.BASIC:
            session.headers["Authorization"] = f"Basic {_basic(self._credential)}"
            return
        context = contexts.open_context(
            self._way, self._credential, self._host, self._adapter.certificate() if self._way.https else None
        )
        self._exchange_tokens(session, scheme, context)
        if not self._way.https:
            session.auth = _SealedBy(context)
            self._encryption = Encryption(session, "kerberos")

    def _exchange_tokens(self, session: requests.Session, scheme: str, context: spnego.ContextProxy) -> None:
        """Send and take tokens until the host has signed this side in, and proved itself where the way asks for it."""
        answer: bytes | None = None
        proved = False
        while True:
            token = self._next_token(context, answer, proved=proved)
            if not token:
                return
            proved = proved or contexts.carries_proof(self._way, context)
            response = self._post(session, f"{scheme} {base64.b64encode(token).decode()}")
            answer = self._answer_in(response, scheme, proved=proved and not context.complete)
            if response.status_code == 401 and (proved and (answer is None or context.complete)):
                raise SignInRefused(REFUSED)
            if context.complete:
                if not 200 <= response.status_code < 300:
                    raise Broken(self._no_winrm(response))
                return
            if answer is None:
                if response.status_code == 401 and scheme in _offered(response):
                    raise RequestRefused(
                        f"{self._not_offered(scheme)} with {self._way.method.value}, and gave no "
                        f"{self._way.method.value} challenge when asked. {_allow(scheme)}"
                    )
                raise Broken(self._no_challenge())

    def _next_token(self, context: spnego.ContextProxy, answer: bytes | None, *, proved: bool) -> bytes | None:
        try:
            return context.step(answer)
        except Exception as error:
            # What the libraries let through when they read an answer (KeyError, struct's, and NTLM's own).
            if self._way.method is Method.KERBEROS:
                raise kerberos.meaning(error, self._credential, self._host) from error
            if proved:
                raise SignInRefused(REFUSED) from error
            if "minimum requirements" in str(error):
                raise RequestRefused(
                    "the host's CredSSP is older than its correction of 2018 (CVE-2018-0886), by which a host proves "
                    "that nobody is between. Install the host's updates."
                ) from error
            raise Broken(self._no_challenge()) from error

    def _answer_in(self, response: requests.Response, scheme: str, *, proved: bool) -> bytes | None:
        """Return the token in a reply; None: it has none."""
        found = re.search(
            rf"(?:^|[,\s]){scheme}\s+([^\s,]+)", response.headers.get("WWW-Authenticate", ""), re.IGNORECASE
        )
        if found is None:
            return None
        try:
            return base64.b64decode(found[1], validate=True)
        except binascii.Error as error:
            if proved:
                return None
            raise Broken(self._no_challenge()) from error

    def _post(self, session: requests.Session, authorization: str = "") -> requests.Response:
        headers = {"Authorization": authorization} if authorization else {}
        return session.send(session.prepare_request(requests.Request("POST", self._endpoint, headers=headers)))

    def _first(self, session: requests.Session) -> requests.Response:
        """Send the first request, which carries nothing. Raises Broken also if TLS is wanted where http was tried."""
        try:
            return self._post(session)
        except requests.ConnectionError as error:
            if not self._way.https and self._wants_tls(error):
                raise Broken(
                    f"{self._place}: what answers there speaks TLS. If it is the host's WinRM listener for https, "
                    "register the host with a transport for https, or with its listener for http (5985)"
                ) from None
            raise

    def _wants_tls(self, error: BaseException) -> bool:
        links = list(causes(error))
        if any(isinstance(link, BadStatusLine) and str(link).startswith(_TLS_RECORD) for link in links):
            return True
        if not any(
            isinstance(link, ConnectionError) and not isinstance(link, ConnectionRefusedError) for link in links
        ):
            return False
        limit_s = min(self._adapter.connect_timeout_s, self._adapter.time_left_s())
        return limit_s > 0 and look(self._host, urlsplit(self._endpoint).port or self._way.port, limit_s) is not None

    def _not_offered(self, scheme: str) -> str:
        return f"the host's WinRM listener does not offer to sign in by {scheme}"

    def _no_challenge(self) -> str:
        return f"{self._place}: what answers there gave no {self._way.method.value} challenge that can be read"

    def _no_winrm(self, response: requests.Response) -> str:
        server = ascii(response.headers.get("Server", "no name"))[:_LONGEST_OFFER]
        return (
            f"{self._place}: what answers there is no WinRM service (HTTP {response.status_code} to a sign-in; "
            f"it calls itself {server})"
        )


def _allow(scheme: str) -> str:
    return (
        f"To allow it, run on the host: {_ENABLE[scheme]}; or run `snapshotctl host update` with another --transport."
    )


def _offered(response: requests.Response) -> list[str]:
    """Return the schemes that a reply offers."""
    schemes = _SCHEME.findall(_QUOTED.sub('""', response.headers.get("WWW-Authenticate", "")))
    return list(dict.fromkeys(schemes))


def _basic(credential: Credential) -> str:
    text = f"{credential.username}:{credential.secret.reveal()}"
    try:
        encoded = text.encode("latin-1")
    except UnicodeEncodeError:
        encoded = text.encode()
    return base64.b64encode(encoded).decode()
