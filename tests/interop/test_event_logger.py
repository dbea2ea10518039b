"""event-logger behind the emulator, with a real Postgres that goes away, comes back, locks, fills up and changes its mind."""

import concurrent.futures
import contextlib
import datetime
import http.client
import http.server
import json
import os
import pathlib
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.parse

import boto3
import chaos
import debian
import pgbouncer
import postgres
import processes
import psycopg
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import build, emulated
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer
from proxied import Logged

BUSY = "The database is busy or not available. Try again in a moment."
# Each condition that a test polls for holds within this time.
PATIENCE_SECONDS = 60


@pytest.fixture
def server():
    with postgres.Postgres() as own:
        yield own


@contextlib.contextmanager
def event_logger(environments, *options, **variables):
    running = emulated("event-logger", "buffered", environments, *options, MCP_AUTH="dangerously-off", **variables)
    try:
        yield running
    finally:
        running.stop()


def ask(url, method, params):
    target = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(target.netloc, timeout=PATIENCE_SECONDS)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    connection.request("POST", target.path, body, {"Content-Type": "application/json"})
    answer = json.load(connection.getresponse())
    connection.close()
    return answer["result"]


def call(url, tool="log_event", **arguments):
    """Whether a call succeeded, and its text."""
    result = ask(url, "tools/call", {"name": tool, "arguments": arguments or {"event_name": "login"}})
    return not result.get("isError"), result["content"][0]["text"]


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def sessions(connection):
    """The sessions of functions."""
    query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    return [pid for (pid,) in connection.execute(query).fetchall()]


@pytest.fixture
def admin(server):
    with psycopg.connect(server.url(), autocommit=True) as connection:
        yield connection


def test_no_event_is_lost_and_none_is_there_twice_while_everything_breaks():
    build()

    figures = chaos.run(calls=1000, clients=16, environments=20)

    assert figures["environments killed"] > 0
    assert figures["restarts of Postgres"] == 3


def test_a_hundred_environments_share_twenty_connections():
    with postgres.Postgres(settings={"max_connections": 20}) as server:
        with event_logger(100, "--reserved", 100, "--timeout", 30, DATABASE_URL=server.url()) as running:
            with concurrent.futures.ThreadPoolExecutor(100) as callers:
                answers = list(callers.map(lambda _: timed_call(running.url), range(200)))
            slowest = max(seconds for seconds, _ in answers)
            answers = [answer for _, answer in answers]

            succeeded = [text for is_success, text in answers if is_success]
            refused = {text.partition(" Request id: ")[0] for is_success, text in answers if not is_success}
            held = connections_of_environments(running.process.pid, server.port)

    assert len(succeeded) >= 17, "three connections are the superuser's"
    # The platform does not have to end the invocation.
    assert slowest < 30
    assert refused <= {BUSY}
    assert held and max(held.values()) == 1, held


def timed_call(url):
    started = time.monotonic()
    answer = call(url)
    return time.monotonic() - started, answer


def connections_of_environments(emulator, port):
    """The number of open connections to a port, by environment."""
    if not pathlib.Path("/proc/net/tcp").exists():
        pytest.skip("without /proc the owner of a connection cannot be found")
    sockets = set()
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].split(":")[1], 16) == port and fields[3] == "01":
            sockets.add(f"socket:[{fields[9]}]")
    held = {}
    for pid, parent, _ in processes.listed():
        if parent != emulator:
            continue
        links = [os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        if own := len(sockets.intersection(links)):
            held[pid] = own
    return held


def test_a_connection_that_the_server_closed_while_frozen_is_replaced(server, admin):
    admin.execute("ALTER ROLE postgres SET idle_session_timeout = '1s'")
    with event_logger(1, DATABASE_URL=server.url()) as running:
        assert call(running.url)[0]
        before = sessions(admin)
        admin.execute("SET idle_session_timeout = 0")
        wait_until(lambda: not sessions(admin))

        after = call(running.url)

    assert before and after == (True, Logged(by=""))


def test_a_database_that_is_down_at_init_is_used_once_it_is_up(server):
    server.stop()
    with event_logger(1, "--timeout", 3, DATABASE_URL=server.url()) as running:
        tools = ask(running.url, "tools/list", {})["tools"]
        is_success, text = call(running.url)
        server.start()
        later = call(running.url)

    assert [tool["name"] for tool in tools] == ["log_event", "get_latest_events"]
    assert not is_success and text.startswith(BUSY)
    assert later[0]


@contextlib.contextmanager
def serving(serve):
    """A port on loopback, each connection to which is given to `serve` on a thread."""

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


@contextlib.contextmanager
def gate(port):
    """A port that accepts connections and holds them, as that of a database that wakes up; they go on when it is opened."""
    is_open = threading.Event()

    def serve(client):
        is_open.wait()
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", port)) as upstream:
            threading.Thread(target=pump, args=[upstream, client], daemon=True).start()
            pump(client, upstream)

    with serving(serve) as own_port:
        yield own_port, is_open
        is_open.set()


def test_calls_wait_for_a_database_that_wakes_up(server, admin, capfd):
    """6.3: waking took longer than a call waited, and each was a fault."""
    with gate(server.port) as (port, is_open):
        url = server.url().replace(f":{server.port}/", f":{port}/")
        with event_logger(3, "--timeout", 30, DATABASE_URL=url, DB_WARM="off") as running:
            opener = threading.Timer(20, is_open.set)
            opener.start()
            with concurrent.futures.ThreadPoolExecutor(3) as callers:
                answers = list(callers.map(lambda _: call(running.url), range(3)))
            opener.join()

    assert sorted(answers) == [(True, f"Event 'login' logged. Its number is {number}.") for number in (1, 2, 3)]
    assert admin.execute("SELECT count(*) FROM events").fetchone() == (3,)
    log = capfd.readouterr().err
    assert log.count('"outcome":"ok"') == 3 and '"level":"ERROR"' not in log and "unavailable" not in log, log


@pytest.mark.parametrize("ignored", ["", "extra_float_digits,options"], ids=["rejects", "ignores"])
def test_environments_share_the_connections_of_a_pooler(server, admin, ignored):
    """6.1: the second environment failed with "prepared statement already exists". The pooler rejects settings of a session,
    or ignores them."""
    try:
        pooler = pgbouncer.PgBouncer(server, ignore_startup_parameters=ignored)
    except debian.Unavailable as reason:
        pytest.skip(f"there is no PgBouncer to test with: {reason}")
    with pooler, event_logger(3, DATABASE_URL=pooler.url()) as running:
        answers = []
        for number in range(12):
            answers.append(call(running.url, event_name=f"event {number}"))
            read = call(running.url, tool="get_latest_events", limit=1)
            assert read[0] and read[1].endswith(f" event {number}")
        with concurrent.futures.ThreadPoolExecutor(9) as callers:
            answers += callers.map(lambda _: call(running.url), range(27))
        with contextlib.ExitStack() as stack:
            left = []
            for _ in range(2):
                # A session of the pooler's each, as long as its transaction lasts.
                client = stack.enter_context(psycopg.connect(pooler.url(), prepare_threshold=None))
                left.append(client.execute("SELECT count(*) FROM pg_prepared_statements").fetchone())
        pooled = len(sessions(admin))

    assert [text for is_success, text in answers if not is_success] == []
    assert pooled == 2
    assert admin.execute("SELECT count(*) FROM events").fetchone() == (39,)
    assert left == [(0,), (0,)]
    assert admin.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_a_lock_is_waited_for_no_longer_than_the_deadline(server, admin):
    with event_logger(1, "--timeout", 2, DATABASE_URL=server.url()) as running:
        assert call(running.url)[0]
        with psycopg.connect(server.url()) as holder:
            holder.execute("LOCK TABLE events")
            without_key = [call(running.url) for _ in range(3)]
            with_key = call(running.url, event_name="paid", idempotency_key="k")
            # The function's, and this test's two: the others were given up with their callers.
            wait_until(lambda: len(sessions(admin)) <= 2)
            holder.rollback()
        later = call(running.url)

    for is_success, text in without_key:
        assert not is_success and "The event may have been stored" in text and "Request id: " in text
    # With a key, a retry is safe after any outcome.
    assert not with_key[0] and with_key[1].startswith(BUSY)
    assert later[0]


def test_a_read_only_database_is_read(server, admin):
    with event_logger(1, DATABASE_URL=server.url()) as running:
        assert call(running.url)[0]
        admin.execute("ALTER ROLE postgres SET default_transaction_read_only = on")
        for pid in sessions(admin):
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        # The session of the first attempt is lost, so that its outcome is not known.
        unknown = call(running.url)
        written = call(running.url)
        read = call(running.url, tool="get_latest_events", limit=1)

    assert not unknown[0] and unknown[1].startswith("The database did not respond. The event may have been stored")
    assert not written[0] and written[1].startswith("The database is read-only at the moment.")
    assert read[0] and read[1].endswith(" login")


@pytest.fixture
def aws():
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    client = boto3.client(
        "secretsmanager", endpoint_url=variables["AWS_ENDPOINT_URL"], region_name="eu-west-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )
    try:
        yield client, variables
    finally:
        moto.stop()


def test_a_password_that_is_rotated_under_a_running_environment_is_fetched_again(server, admin, aws):
    client, variables = aws
    admin.execute("CREATE ROLE app LOGIN PASSWORD 'first'")
    admin.execute("GRANT ALL ON SCHEMA public TO app")
    secret = {"username": "app", "password": "first", "engine": "postgres", "host": "127.0.0.1"}
    secret |= {"port": server.port, "dbname": "postgres"}
    arn = client.create_secret(Name="db", SecretString=json.dumps(secret))["ARN"]
    with event_logger(1, DB_SECRET_ARN=arn, **variables) as running:
        assert call(running.url)[0]
        admin.execute("ALTER ROLE app PASSWORD 'second'")
        client.put_secret_value(SecretId=arn, SecretString=json.dumps(secret | {"password": "second"}))
        for pid in sessions(admin):
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        after = call(running.url)

    assert after == (True, Logged(by=""))


def test_a_secret_is_fetched_over_tls_from_whom_the_machine_trusts(tmp_path, server, aws):
    client, variables = aws
    secret = {"username": "postgres", "password": server.password, "host": "127.0.0.1", "dbname": "postgres"}
    arn = client.create_secret(Name="db-over-tls", SecretString=json.dumps(secret | {"port": server.port}))["ARN"]
    authority, key, certificate = certificates("localhost")
    roots, own = tmp_path / "roots.pem", tmp_path / "own.pem"
    roots.write_bytes(authority)
    own.write_bytes(key + certificate)
    with encrypted(own, urllib.parse.urlsplit(variables["AWS_ENDPOINT_URL"]).port, asks_first=False) as port:
        variables = {**variables, "AWS_ENDPOINT_URL": f"https://localhost:{port}", "DB_SECRET_ARN": arn}
        with event_logger(1, SSL_CERT_FILE=roots, **variables) as running:
            known = call(running.url)
        with event_logger(1, **variables) as running:
            unknown = call(running.url)

    assert known == (True, Logged(by=""))
    assert not unknown[0]


def test_the_server_must_prove_who_it_is(tmp_path, server):
    authority, key, certificate = certificates("localhost")
    roots, own = tmp_path / "roots.pem", tmp_path / "own.pem"
    roots.write_bytes(authority)
    own.write_bytes(key + certificate)
    with encrypted(own, server.port) as port:
        variables = {
            "DB_HOST": "localhost", "DB_PORT": port, "DB_USER": "postgres", "DB_PASS": server.password,
            "DB_NAME": "postgres", "DB_SSLMODE": "verify-full",
        }
        with event_logger(1, DB_SSLROOTCERT=roots, **variables) as running:
            known = call(running.url)
        with event_logger(1, **variables) as running:
            unknown = call(running.url)
        with event_logger(1, DB_SSLROOTCERT=roots, **{**variables, "DB_HOST": "127.0.0.1"}) as running:
            other_name = call(running.url)

    assert known[0]
    for is_success, text in (unknown, other_name):
        # Nothing that could be tried again.
        assert not is_success and text.startswith("The tool failed. Request id: ")


def pump(source, sink):
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def encrypted(certificate, port, asks_first=True):
    """A port with TLS before one without; asked for as Postgres is, not every build of which can do that itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(plain):
        with contextlib.suppress(OSError), plain:
            if asks_first:
                # Its length, and the code of an SSLRequest.
                assert struct.unpack("!II", plain.recv(8)) == (8, 80877103)
                plain.sendall(b"S")
            with context.wrap_socket(plain, server_side=True) as client:
                with socket.create_connection(("127.0.0.1", port)) as upstream:
                    threading.Thread(target=pump, args=[upstream, client], daemon=True).start()
                    pump(client, upstream)

    with serving(serve) as own_port:
        yield own_port


def certificates(name):
    """An authority, and the key and certificate that it made for a name."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject, issuer, public_key, signing_key, *extensions):
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
            subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(days=1),
            not_valid_after=now + datetime.timedelta(days=1),
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(signing_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    authority = certificate(
        "authority", "authority", authority_key.public_key(), authority_key, x509.BasicConstraints(ca=True, path_length=None)
    )
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    own = certificate(name, "authority", key.public_key(), authority_key, names)
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority, key.private_bytes(*encoding), own


@pytest.mark.parametrize("from_service", [False, True], ids=["environment", "service"])
def test_a_token_is_signed_as_aws_signs_it(from_service):
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        passwords = []
        threading.Thread(target=take_passwords, args=[listener, passwords], daemon=True).start()
        variables = {
            "DB_HOST": "127.0.0.1", "DB_PORT": port, "DB_USER": "app user", "DB_NAME": "events", "DB_AUTH": "iam",
            "AWS_REGION": "eu-west-1",
        }
        if from_service:
            variables |= stack.enter_context(credentials_service())
        else:
            variables |= {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
        with event_logger(1, **variables):
            wait_until(lambda: passwords)

    given = urllib.parse.parse_qs(urllib.parse.urlsplit(f"https://{passwords[0]}").query)
    signed_at = datetime.datetime.strptime(given["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ")
    expected = token(f"127.0.0.1:{port}", "app user", signed_at, "session" if from_service else None)
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(expected).query) == given


@contextlib.contextmanager
def credentials_service():
    """Where a function finds its credentials after a snapshot was restored; the variables that say so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            is_known = self.headers["Authorization"] == "the function"
            body = json.dumps({
                "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "secret", "Token": "session",
                "Expiration": (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            })
            self.send_response(200 if is_known else 403)
            self.end_headers()
            self.wfile.write(body.encode() if is_known else b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{service.server_port}/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the function",
        }
        service.shutdown()


def token(endpoint, user, signed_at, session):
    """What botocore makes of the same, at the same time."""
    request = AWSRequest("GET", f"https://{endpoint}/", params={"Action": "connect", "DBUser": user})
    auth = SigV4QueryAuth(Credentials("AKIDEXAMPLE", "secret", session), "rds-db", "eu-west-1", expires=900)
    request.context["timestamp"] = signed_at.strftime("%Y%m%dT%H%M%SZ")
    request.url = f"https://{endpoint}/?Action=connect&DBUser={urllib.parse.quote(user, safe='')}"
    request.params = {}
    auth._modify_request_before_signing(request)
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    auth._inject_signature_to_request(request, signature)
    return request.url


def take_passwords(listener, passwords):
    """As much of a Postgres as it takes to be told a password."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            (length,) = struct.unpack("!I", connection.recv(4))
            connection.recv(length - 4)
            connection.sendall(b"R" + struct.pack("!II", 8, 3))
            kind = connection.recv(1)
            (length,) = struct.unpack("!I", connection.recv(4))
            password = connection.recv(length - 4).rstrip(b"\0").decode()
            if kind == b"p":
                passwords.append(password)
