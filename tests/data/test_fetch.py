"""Downloads from a server of our own: whole and right, or nothing at all and one line that says why."""

import contextlib
import errno
import hashlib
import http.server
import io
import threading
import time

import pytest

from tinygen.data import fetch
from tinygen.data.fetch import fetch_file
from tinygen.errors import DataError, OutputError

CONTENT = bytes(range(256)) * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/whole gives the file, /short breaks off, /other gives another file, /slow nothing for long, the rest 404."""

    def do_GET(self):
        if self.path not in ("/whole", "/unsized", "/short", "/other", "/slow"):
            self.send_error(404)
            return
        if self.path == "/slow":
            time.sleep(0.6)
        content = b"something else" if self.path == "/other" else CONTENT
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has left, as it should
            self.wfile.write(content[:1000] if self.path == "/short" else content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("page", ["whole", "unsized"])
def test_a_file_arrives_whole_and_is_counted_on_the_way(server, tmp_path, page):
    seen = []
    fetch_file(tmp_path / "new" / "a.gz", [f"{server}/{page}"], SUM, lambda *counts: seen.append(counts))
    assert (tmp_path / "new" / "a.gz").read_bytes() == CONTENT
    assert listing(tmp_path / "new") == ["a.gz"]
    assert seen[-1] == (len(CONTENT), len(CONTENT) if page == "whole" else None)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_the_next_address_is_asked_where_one_fails(server, tmp_path):
    urls = [f"{server}/nothing", f"{server}/short", f"{server}/other", f"{server}/whole"]
    fetch_file(tmp_path / "a.gz", urls, SUM)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT and listing(tmp_path) == ["a.gz"]


@pytest.mark.parametrize(
    ("page", "reason"),
    [("nothing", "404 Not Found"), ("short", "1000 of 256000 bytes"), ("other", "is another file, with the sha256 ")],
)
def test_nothing_half_written_remains_and_the_old_file_stays(server, tmp_path, page, reason):
    (tmp_path / "a.gz").write_bytes(b"old")
    with pytest.raises(DataError) as caught:
        fetch_file(tmp_path / "a.gz", [f"{server}/{page}"], SUM)
    assert f"a.gz cannot be downloaded: {server}/{page}: " in caught.value.message and reason in caught.value.message
    assert caught.value.hint == f"put it into {tmp_path} by hand; its sha256 is {SUM}"
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a.gz").read_bytes() == b"old" and listing(tmp_path) == ["a.gz"]


def test_a_server_that_says_nothing_and_one_that_is_not_there(server, tmp_path):
    with pytest.raises(DataError, match="timed out"):
        fetch_file(tmp_path / "a.gz", [f"{server}/slow"], SUM, timeout=0.1)
    with pytest.raises(DataError, match="refused"):
        fetch_file(tmp_path / "a.gz", ["http://127.0.0.1:9/a.gz"], SUM, timeout=1)
    with pytest.raises(DataError, match="no address is known"):
        fetch_file(tmp_path / "a.gz", [], SUM)
    assert listing(tmp_path) == []


class FullDisk(io.BytesIO):
    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_and_left_clean(server, tmp_path, monkeypatch):
    (tmp_path / "a.gz").write_bytes(b"old")
    monkeypatch.setattr(fetch.Path, "open", lambda *_: FullDisk())
    with pytest.raises(OutputError, match=r"a\.gz: cannot be written: No space left on device") as caught:
        fetch_file(tmp_path / "a.gz", [f"{server}/whole"], SUM)
    assert caught.value.hint == "make room, or choose another --data-dir"
    monkeypatch.undo()
    assert (tmp_path / "a.gz").read_bytes() == b"old" and listing(tmp_path) == ["a.gz"]


def test_a_place_that_is_no_folder(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        fetch_file(tmp_path / "file" / "a.gz", [f"{server}/whole"], SUM)


def test_a_folder_that_cannot_be_entered(server, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("mkdir", "open", "stat", "unlink"):  # as it is for a user without rights; root has all of them
        monkeypatch.setattr(fetch.Path, name, refuse)
    with pytest.raises(OutputError, match=r"a\.gz: cannot be written: Permission denied"):
        fetch_file(tmp_path / "locked" / "a.gz", [f"{server}/whole"], SUM)
    monkeypatch.undo()


def test_an_interruption_leaves_nothing(server, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_file(tmp_path / "a.gz", [f"{server}/whole"], SUM, interrupt)
    assert listing(tmp_path) == []
