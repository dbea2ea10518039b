"""`mcpl doctor`: what it says of this machine: proxies, certificates, the clock, tokens and where they are kept."""

import datetime
import ipaddress
import json
import os
import pathlib
import socket
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from faulty import Faulty

HANG_SECONDS = 120
CLEAN = {
    name: value for name, value in os.environ.items()
    if not name.upper().endswith("_PROXY") and not name.startswith(("SSL_CERT", "XDG_", "MCPL_"))
}


@pytest.fixture
def doctor(mcpl, tmp_path):
    """Runs the command in a home folder of its own; its findings, each by check and level."""

    def run(url, *words, code=None, **variables):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        ran = subprocess.run(
            [mcpl, "doctor", url, "--json", *words], capture_output=True, text=True, timeout=HANG_SECONDS,
            env={**CLEAN, "HOME": str(home), **variables},
        )
        findings = json.loads(ran.stdout)
        assert ran.returncode == any(own["level"] == "problem" for own in findings) and code in (None, ran.returncode)
        return findings

    return run


def told(findings, check, level):
    return [own for own in findings if own["check"] == check and own["level"] == level]


def test_the_program_names_its_version_and_path(doctor, mcpl, tmp_path):
    other = tmp_path / "bin" / "mcpl"
    other.parent.mkdir()
    other.write_text("")
    version = subprocess.run([mcpl, "--version"], capture_output=True, text=True).stdout.split()[1]
    with Faulty() as server:
        alone = doctor(server.url, code=0)
        shadowed = doctor(server.url, PATH=f"{other.parent}{os.pathsep}{os.environ['PATH']}", code=0)

    assert told(alone, "program", "ok")[0]["found"] == f"mcpl {version} is {mcpl}"
    (finding,) = told(shadowed, "program", "note")
    assert str(other) in finding["found"] and "by its name" in finding["clients"]


def test_proxies_are_named(doctor):
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    with Faulty() as server:
        nowhere = f"http://me:hunter2@127.0.0.1:{closed}"
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            (finding,) = told(doctor(server.url, **{variable: nowhere}), "proxy", "problem")
            assert f"{variable} names the proxy 127.0.0.1:{closed}, which cannot be reached" in finding["found"], finding
            assert "NO_PROXY" in finding["fix"] and "hunter2" not in json.dumps(finding)
        malformed = doctor(server.url, HTTP_PROXY="http//me:hunter2@proxy", code=1)
        bypassed = doctor(server.url, HTTP_PROXY=nowhere, NO_PROXY="127.0.0.1", code=0)
        other_scheme = doctor(server.url, HTTPS_PROXY=nowhere, code=0)
        # A proxy that is there, and answers itself: it is on this machine, as the server is.
        with Faulty() as proxy:
            proxied = doctor(server.url, HTTP_PROXY=proxy.origin)
        elsewhere = doctor("https://mcp.invalid/mcp", HTTPS_PROXY=server.origin, code=1)

    (finding,) = told(malformed, "proxy", "problem")
    assert "HTTP_PROXY names no proxy (`proxy`), and is ignored" in finding["found"] and "http://HOST:PORT" in finding["fix"]
    assert told(bypassed, "proxy", "ok")[0]["found"] == "requests go to the server without HTTP_PROXY"
    assert told(other_scheme, "proxy", "ok")[0]["found"] == "requests go to the server without HTTPS_PROXY"
    (finding,) = told(proxied, "proxy", "note")
    assert "applies to this machine too" in finding["found"] and "NO_PROXY=localhost,127.0.0.1" in finding["fix"]
    assert "HTTPS_PROXY" in told(elsewhere, "proxy", "ok")[0]["found"]
    (finding,) = told(elsewhere, "reach", "problem")
    assert "HTTPS_PROXY" in finding["fix"] and finding["clients"] == "mcpl on this machine"


def certificate(folder, name, days, *names, issuer=None):
    """A certificate for names, and its key: as files, and for signing others."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer[0] if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    # An hour more, so that the day does not change while the test runs.
    end = now + datetime.timedelta(days=days, hours=1)
    builder = builder.not_valid_before(min(now, end) - datetime.timedelta(days=1)).not_valid_after(end)
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    signed = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files[1].write_bytes(key.private_bytes(*private))
    return files, (subject, key)


LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def test_certificates_are_named(doctor, tmp_path):
    (authority, _), issuer = certificate(tmp_path, "authority", 365)
    trusted = {"SSL_CERT_FILE": str(authority)}

    def examined(days, *names, **variables):
        files, _ = certificate(tmp_path, f"server{days}", days, *names, issuer=issuer)
        with Faulty(tls=files) as server:
            return doctor(server.url, **variables)

    (well,) = told(examined(100, LOOPBACK, **trusted), "certificate", "ok")
    (soon,) = told(examined(10, LOOPBACK, **trusted), "certificate", "note")
    (very_soon,) = told(examined(3, LOOPBACK, **trusted), "certificate", "problem")
    (expired,) = told(examined(-1, LOOPBACK, **trusted), "reach", "problem")
    (mismatch,) = told(examined(100, x509.DNSName("mcp.example.com"), **trusted), "reach", "problem")
    (untrusted,) = told(examined(100, LOOPBACK), "reach", "problem")
    (for_others,) = told(examined(100, LOOPBACK, NODE_EXTRA_CA_CERTS=str(authority)), "reach", "problem")

    assert "100 days" in well["found"] and "10 days" in soon["found"] and "3 days" in very_soon["found"]
    assert "has expired" in expired["found"] and "clock" in expired["fix"]
    assert "none for 127.0.0.1" in mismatch["found"] and "mcp.example.com" in mismatch["found"]
    assert "not trusted here" in untrusted["found"] and "SSL_CERT_FILE" in untrusted["fix"]
    assert "NODE_EXTRA_CA_CERTS is for other programs" in for_others["fix"]


def test_variables_of_certificates_are_examined(doctor, tmp_path):
    empty, folder = tmp_path / "empty.pem", tmp_path / "certificates"
    empty.write_text("")
    folder.mkdir()
    (authority, _), _ = certificate(folder, "authority", 365)
    with Faulty() as server:
        for variables, expected in [
            ({"SSL_CERT_FILE": str(tmp_path / "none.pem")}, "cannot be read"),
            ({"SSL_CERT_FILE": str(folder)}, "cannot be read"),
            ({"SSL_CERT_FILE": str(empty)}, "has no certificate"),
            ({"SSL_CERT_DIR": str(tmp_path / "none")}, "cannot be read"),
        ]:
            findings = told(doctor(server.url, code=1, **variables), "certificates", "problem")
            ((name, value),) = variables.items()
            assert expected in findings[0]["found"] and name in findings[0]["found"] and value in findings[0]["found"], findings
        one = doctor(server.url, code=0, SSL_CERT_FILE=str(authority))

    assert told(one, "certificates", "ok")[0]["found"].startswith("1 of SSL_CERT_FILE")


@pytest.mark.parametrize(("ahead", "level", "found"), [(-3600, "problem", "behind"), (3600, "problem", "ahead"), (120, "note", "120 s ahead")])
def test_a_clock_that_differs_is_found(doctor, ahead, level, found):
    with Faulty(ahead=ahead) as server:
        (finding,) = told(doctor(server.url), "clock", level)

    assert found in finding["found"].replace("119", "120").replace("121", "120") and "NTP" in finding["fix"]


def test_the_clock_of_the_issuer_decides_which_one_is_wrong(doctor):
    with Faulty() as issuer, Faulty(has_metadata=True, ahead=3600) as server:
        issuer.has_metadata = True
        server.member = {"authorization_servers": [issuer.origin]}
        (finding,) = told(doctor(server.url), "clock", "problem")

    assert "of this machine's and of the issuer's" in finding["found"] and "rejects tokens" in finding["clients"]


def test_the_store_is_examined(doctor, mcpl, tmp_path):
    home = tmp_path / "home"
    with Faulty() as server:
        fresh = doctor(server.url, code=0)
        assert not (home / ".local").exists(), "it makes no folder"
        file = tmp_path / "file"
        file.write_text("")
        no_folder = doctor(server.url, "--state-dir", str(file), code=1)
        own = tmp_path / "own"
        own.mkdir(mode=0o755)
        is_open = doctor(server.url, "--state-dir", str(own), code=1)
        own.chmod(0o700)
        secret = ["--client-id", "me", "--client-secret", "hunter2", "--state-dir", str(own)]
        subprocess.run([mcpl, "install", "x", server.url, "--cursor", *secret], env={**CLEAN, "HOME": str(home)}, check=True, capture_output=True)
        kept = doctor(server.url, "--state-dir", str(own), code=0)
        (state,) = own.glob("*.json")
        state.write_text('{"server": "x", "sealed": "AAAA"}')
        sealed = doctor(server.url, "--state-dir", str(own), code=1)
        state.write_text("broken")
        broken = doctor(server.url, "--state-dir", str(own), code=0)
        state.unlink()
        state.mkdir()
        unreadable = doctor(server.url, "--state-dir", str(own), code=1)
        # Where not even root can make a file.
        not_writable = doctor(server.url, HOME="/proc", code=1)

    assert "nothing is kept" in told(fresh, "store", "ok")[0]["found"]
    assert "is no folder" in told(no_folder, "store", "problem")[0]["found"]
    (finding,) = told(is_open, "store", "problem")
    assert "mode 755" in finding["found"] and "--state-dir" in finding["fix"]
    assert "are kept" in told(kept, "store", "ok")[0]["found"]
    (finding,) = told(sealed, "store", "problem")
    assert "is sealed" in finding["found"] and "mcpl forget" in finding["fix"]
    assert "is broken" in told(broken, "store", "note")[0]["found"]
    assert "cannot be read" in told(unreadable, "store", "problem")[0]["found"]
    (finding,) = told(not_writable, "store", "problem")
    assert "cannot be written" in finding["found"] and "MCPL_STATE_DIR" in finding["fix"]


def test_a_keychain_that_is_missing_is_a_note(doctor):
    with Faulty() as server:
        usual = doctor(server.url, DBUS_SESSION_BUS_ADDRESS="unix:path=/nowhere", code=0)
        given = doctor(server.url, "--state-dir", str(pathlib.Path("/proc/self/cwd")), DBUS_SESSION_BUS_ADDRESS="unix:path=/nowhere")

    (finding,) = told(usual, "keychain", "note")
    assert "mode 600" in finding["found"]
    assert not told(given, "keychain", "note"), "files of a folder that is given are not sealed"


def test_exit_codes_and_the_form_of_json(doctor, mcpl):
    with Faulty() as server:
        findings = doctor(server.url, code=0)
    away = doctor("http://127.0.0.1:1/mcp", code=1)
    wrong = subprocess.run([mcpl, "doctor"], capture_output=True)
    no_url = subprocess.run([mcpl, "doctor", "http://", "--json"], capture_output=True, text=True)

    assert wrong.returncode == 2 and no_url.returncode == 1 and "is no URL" in no_url.stderr
    for finding in findings + away:
        assert set(finding) <= {"check", "level", "found", "clients", "fix"} and finding["level"] in ("ok", "note", "problem")
        assert ("fix" in finding) is (finding["level"] != "ok")
    (finding,) = told(away, "reach", "problem")
    assert finding["clients"] and "could not" not in finding["found"]
