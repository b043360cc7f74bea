"""Libraries that are loaded in part; each test in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import certificates

ROOT = Path(__file__).parents[3]


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_named_parts_are_loaded() -> None:
    loaded = run("""
import sys
from agent.cli import lean_imports
lean_imports.begin()
lean_imports.begin()
import agent.start
print([name for name, module in sys.modules.items() if module is not None])
""")
    assert "'pyroute2.iproute.linux'" in loaded
    assert "'docker.api.client'" in loaded
    for part in ("pyroute2.ndb", "pyroute2.ipdb", "docker.models", "charset_normalizer", "rich"):
        assert f"'{part}" not in loaded
    assert "'unittest.mock'" in loaded
    for part in ("unittest.case", "difflib", "colorama", "psutil"):
        assert f"'{part}'" not in loaded


def test_whoever_wants_the_whole_package_gets_it() -> None:
    run("""
from agent.cli import lean_imports
lean_imports.begin()
from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2 import IPRoute, NDB
import pyroute2, docker, docker.errors
assert pyroute2.AsyncIPRoute is AsyncIPRoute
assert issubclass(docker.DockerClient, object)
assert docker.errors.APIError
import io, tarfile, zipfile
with tarfile.open(mode="w", fileobj=io.BytesIO()) as archive:
    assert archive.getnames() == []
with zipfile.ZipFile(io.BytesIO(), "w") as archive:
    assert archive.namelist() == []
""")


def test_a_loaded_package_and_one_that_is_not_installed_stay_as_they_are() -> None:
    run("""
import sys, json
from agent.cli import lean_imports
before = sys.modules["json"]
lean_imports.load_lazily("json")
lean_imports.load_lazily("no_such_package")
assert sys.modules["json"] is before
assert "no_such_package" not in sys.modules
""")


def test_the_engines_client_reads_answers_without_a_detector() -> None:
    run("""
from agent.cli import lean_imports
lean_imports.begin()
import requests
answer = requests.Response()
answer._content = '{"name": "ü"}'.encode()
assert answer.json() == {"name": "ü"}
assert "ü" in answer.text
""")


def test_a_deferred_part_is_executed_when_it_is_used() -> None:
    run("""
from agent.cli import lean_imports
lean_imports.begin()
import agent.start, attr, msgspec, sys
def executed(name):
    return "__all__" in object.__getattribute__(sys.modules[name], "__dict__")
assert not executed("attr.validators")
assert not executed("attr.converters")
assert not executed("msgspec.inspect")
@attr.s
class Row:
    size = attr.ib(validator=attr.validators.instance_of(int))
assert Row(3).size == 3
try:
    Row("3")
except TypeError:
    pass
else:
    raise AssertionError("the validator did nothing")
assert executed("attr.validators")
assert msgspec.inspect.type_info(int) == msgspec.inspect.IntType()
""")


def test_the_hosts_table_of_file_types_is_left_unread() -> None:
    run("""
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from agent.cli import lean_imports
lean_imports.begin()
import agent.start
from aiohttp.web_fileresponse import CONTENT_TYPES
assert not [path for path in opened if path.endswith("mime.types")]
assert CONTENT_TYPES.guess_type("page.html")[0] == "text/html"
""")


def test_nothing_looks_for_garbage_while_importing() -> None:
    run("""
import gc
from agent.cli import lean_imports
lean_imports.begin()
assert not gc.isenabled()
import agent.start
lean_imports.end()
lean_imports.end()
assert gc.isenabled() and gc.get_freeze_count() > 10_000
""")


def test_authorities_of_the_system_are_read_for_the_first_connection(tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    run(f"""
import asyncio, os, ssl
from agent.cli import lean_imports
usual = ssl.create_default_context
lean_imports.begin()
import aiohttp
from aiohttp import web
from aiohttp.connector import _SSL_CONTEXT_VERIFIED as default
assert ssl.create_default_context is usual
assert default.verify_mode is ssl.CERT_REQUIRED and default.check_hostname
assert default.cert_store_stats()["x509_ca"] == 0

async def ask(port):
    async with aiohttp.ClientSession() as session, session.get(f"https://localhost:{{port}}/") as answer:
        return answer.status

async def main():
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain({str(made.certificate)!r}, {str(made.key)!r})
    app = web.Application()
    app.router.add_get("/", answered)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own)
    await site.start()
    port = runner.addresses[0][1]
    os.environ["SSL_CERT_FILE"] = {str(made.ca)!r}
    assert await ask(port) == 200
    assert await ask(port) == 200
    assert default.cert_store_stats()["x509_ca"] >= 1
    from aiohttp import connector
    connector._SSL_CONTEXT_VERIFIED = lean_imports._CertificatesLater(ssl.PROTOCOL_TLS_CLIENT)
    os.environ["SSL_CERT_FILE"] = os.devnull
    os.environ["SSL_CERT_DIR"] = os.devnull
    try:
        await ask(port)
    except aiohttp.ClientConnectorCertificateError:
        pass
    else:
        raise AssertionError("it trusted a certificate that nobody vouches for")
    await runner.cleanup()

async def answered(request):
    return web.Response()

asyncio.run(main())
""")
