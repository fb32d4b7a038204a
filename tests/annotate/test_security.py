"""The list of docs/annotate.md, point by point, through the client."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from starlette.testclient import TestClient

from safetyvalve.annotate import Database
from safetyvalve.annotate.export import export_files
from safetyvalve.annotate.guard import Address
from safetyvalve.annotate.models import Annotator, Invite, Login, Vote
from safetyvalve.annotate.running import Start, run_server
from safetyvalve.data.cells import safe_cell
from safetyvalve.errors import UsageError
from tests.annotate.material import Person, invite, new_id, problems, write_answers

Serve = Callable[..., Any]
EVIL = "'; DROP TABLE vote; --"


@pytest.fixture
def app(serve: Serve, tmp_path: Path) -> Any:
    rows = [{"prompt": f"=P{i}", "responses": {"=m+1": "x", "@n": "y"}} for i in range(4)]
    return serve(write_answers(tmp_path / "answers.jsonl", rows))


def stranger(app: Any, **options: Any) -> TestClient:
    client = TestClient(app, base_url="http://127.0.0.1:8471", follow_redirects=False, **options)
    client.portal = app.state.portal
    return client


def test_headers(app: Any) -> None:
    for path in ("/", "/static/app.js", "/nothing", "/judge"):
        headers = stranger(app).get(path).headers
        policy = headers["content-security-policy"]
        for part in ("default-src 'none'", "frame-ancestors 'none'", "img-src 'self'", "base-uri 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert "data:" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:9", "127.0.0.1.evil.example:8471", "", "localhost:8471x"])
def test_foreign_host(app: Any, host: str) -> None:
    assert stranger(app).get("/", headers={"host": host}).status_code == 421


def test_own_names_answer(app: Any) -> None:
    for host in ("127.0.0.1:8471", "localhost:8471", "[::1]:8471", "LOCALHOST:8471"):
        assert stranger(app).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9"},
        {"origin": "https://127.0.0.1:8471"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_foreign_origin(app: Any, database: Database, headers: dict[str, str]) -> None:
    one = Person(app, database)
    item = one.item()
    assert item
    fields = {"csrf": item["csrf"], "id": new_id(), "choice": "1"}
    refused = one.client.post(f"/judge/{item['assignment']}", data=fields, headers=headers)
    assert refused.status_code == 403
    with database.read() as session:
        assert session.scalars(select(Vote)).all() == []
    good = one.client.post(f"/judge/{item['assignment']}", data=fields, headers={"origin": "http://127.0.0.1:8471"})
    assert good.status_code == 303


def test_csrf(app: Any, database: Database) -> None:
    one, two = Person(app, database), Person(app, database)
    item = one.item()
    assert item
    body = {"id": new_id(), "assignment": item["assignment"], "choice": "1"}
    for token in ("", "0" * 64, two.csrf(), "ü"):
        form = one.client.post(f"/judge/{item['assignment']}", data={"csrf": token, "id": new_id(), "choice": "1"})
        assert form.status_code == 403
        sent = one.client.post("/api/votes", json=body, headers={"x-csrf-token": token.encode()})
        assert sent.status_code == 403
    admin = Person(app, database, "admin")
    for path in ("/admin/export", "/admin/invites", "/admin/guideline", "/admin/people/1"):
        fields = {"role": "admin", "en": "x", "ja": "x", "action": "erase"}
        assert admin.client.post(path, data=fields).status_code == 403, path


def test_invites_work_once_and_in_time(app: Any, database: Database) -> None:
    token = invite(database)
    for _ in range(2):  # a mail program that looks at the link does not use it up
        assert stranger(app).get(f"/invite/{token}").status_code == 200
    assert stranger(app).post(f"/invite/{token}").status_code == 303
    assert stranger(app).post(f"/invite/{token}").status_code == 410
    assert stranger(app).get(f"/invite/{token}").status_code == 410
    late = invite(database, days=1 / 1440)
    clock = app.state.site.clock
    app.state.site.clock = lambda: clock() + 61_000
    assert stranger(app).post(f"/invite/{late}").status_code == 410
    app.state.site.clock = clock
    revoked = invite(database)
    with database.write() as session:
        for row in session.scalars(select(Invite).where(Invite.used_at.is_(None))):
            row.revoked = True
    answers = [stranger(app).post(f"/invite/{t}") for t in (revoked, "made-up", token)]
    assert {a.status_code for a in answers} == {410}
    assert len({re.sub(r"/invite/[\w-]+", "", a.text) for a in answers}) == 1  # nothing tells them apart


def test_tokens_are_not_stored(app: Any, database: Database) -> None:
    one = Person(app, database)
    with database.read() as session:
        stored = " ".join([*session.scalars(select(Invite.token_hash)), *session.scalars(select(Login.token_hash))])
    assert one.token not in stored
    assert one.client.cookies["safetyvalve"] not in stored


def test_cookie(app: Any, database: Database) -> None:
    answer = stranger(app).post(f"/invite/{invite(database)}")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_two_at_one_invite(app: Any, database: Database) -> None:
    from concurrent.futures import ThreadPoolExecutor

    token = invite(database)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: stranger(app).post(f"/invite/{token}").status_code, range(4)))
    assert sorted(answers) == [303, 410, 410, 410]


REVIEWER = ["/results"]
ADMIN = ["/admin", "/admin/people", "/admin/items", "/admin/guideline"]
ADMIN_POSTS = [
    "/admin/batches/1",
    "/admin/export",
    "/admin/invites",
    "/admin/guideline",
    "/admin/people/1",
    "/admin/items/" + "0" * 32,
    "/admin/reports/" + "0" * 32,
    "/admin/invites/1/revoke",
]
FIELDS = {
    "overlap": "1",
    "repeat_share": "0",
    "gold_every": "0",
    "role": "admin",
    "en": "x",
    "ja": "x",
    "action": "link",
    "decision": "kept",
}


def test_roles(app: Any, database: Database) -> None:
    one, reviewer = Person(app, database), Person(app, database, "reviewer")
    admin = Person(app, database, "admin")
    for path in REVIEWER + ADMIN:
        assert stranger(app).get(path).status_code == 401, path
        assert one.get(path).status_code == 403, path
    for path in ADMIN:
        assert reviewer.get(path).status_code == 403, path
    for person in (one, reviewer):
        for path in ADMIN_POSTS:
            fields = FIELDS | {"csrf": person.csrf("/results" if person is reviewer else "/progress")}
            if "/items/" in path:
                fields["action"] = "withdraw"
            assert person.client.post(path, data=fields).status_code == 403, path
    for person in (reviewer, admin):  # who may see names does not judge
        assert person.get("/judge").status_code == 403
        assert person.get("/progress/mine.json").status_code == 403


def test_somebody_elses_assignment(app: Any, database: Database) -> None:
    one, two = Person(app, database), Person(app, database)
    item = one.item()
    assert item
    two.item()
    for page in ("", "/correct", "/corrected", "/feedback"):
        assert two.get(f"/judge/{item['assignment']}{page}").status_code == 404
    two.post(f"/judge/{item['assignment']}", status=404, id=new_id(), choice="1")
    two.post(f"/judge/{item['assignment']}/report", status=404, id=new_id())


def test_signing_out_and_being_stopped(app: Any, database: Database) -> None:
    one, two, admin = Person(app, database), Person(app, database), Person(app, database, "admin")
    cookie = one.client.cookies["safetyvalve"]
    one.post("/sign-out")
    again = stranger(app, cookies={"safetyvalve": cookie})
    assert again.get("/judge").status_code == 401
    with database.read() as session:
        number = session.scalars(select(Annotator.id).where(Annotator.role == "annotator").order_by(Annotator.id)).all()
    admin.post(f"/admin/people/{number[-1]}", action="stop")
    assert two.get("/judge").status_code == 401
    relink = admin.post(f"/admin/people/{number[0]}", status=200, action="link").text
    token = re.search(r"/invite/([\w-]+)</code>", relink)[1]  # type: ignore[index]
    back = stranger(app)
    assert back.post(f"/invite/{token}").status_code == 303
    assert back.get("/judge").status_code == 200  # the same person: the guideline is not asked again


def test_sql_injection(app: Any, database: Database) -> None:
    one = Person(app, database)
    item = one.item()
    assert item
    one.post(f"/judge/{item['assignment']}/report", id=new_id(), reason=EVIL)
    assert one.get(f"/judge?saved={EVIL}").status_code in (200, 422)
    assert stranger(app).get(f"/invite/{EVIL}").status_code == 410
    assert stranger(app, cookies={"safetyvalve": EVIL, "lang": EVIL}).get("/judge").status_code == 401
    assert one.get(f"/judge/{EVIL}").status_code in (404, 422)
    admin = Person(app, database, "admin")
    admin.client.post(
        "/admin/batches",
        data={"csrf": admin.csrf("/admin"), "name": EVIL},
        files={"file": ("x.jsonl", b'{"prompt": "\'; DROP TABLE item; --", "responses": ["a", "b"]}\n')},
    )
    assert "DROP TABLE" in admin.get("/admin").text
    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM vote")).scalar_one() == 0
    assert problems(database) == []


def test_csv_runs_nothing(app: Any, database: Database) -> None:
    Person(app, database).judge_all()
    with database.read() as session:
        rows = export_files(session)["votes.csv"].decode("utf-8-sig").splitlines()
    assert len(rows) == 5
    assert all(",'=P" in row and ",'=m+1," in row and ",'@n," in row for row in rows[1:])


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "－1", "＠x", "  =1", "|cmd"])
def test_cells(cell: str) -> None:
    assert str(safe_cell(cell)).startswith("'")


def test_ordinary_cells_stay() -> None:
    assert [safe_cell(c) for c in ("a=1", "回答", 3, "")] == ["a=1", "回答", 3, ""]


def test_too_large(app: Any, database: Database) -> None:
    one = Person(app, database)
    item = one.item()
    assert item
    one.post(f"/judge/{item['assignment']}/correct", status=422, id=new_id(), answer="1", text="x" * 300_000)
    body = {"id": new_id(), "assignment": item["assignment"], "answer": "1", "text": "x" * 300_000}
    sent = one.client.post("/api/corrections", json=body, headers={"x-csrf-token": item["csrf"]})
    assert sent.status_code == 422
    huge = one.client.post("/api/votes", content=b"x" * (65 * 2**20), headers={"content-type": "application/json"})
    assert huge.status_code == 413


def test_answers_are_escaped_where_they_are_edited(serve: Serve, database: Database, tmp_path: Path) -> None:
    rows = [{"prompt": "P", "responses": {"m": "</textarea><script>alert(1)</script>", "n": "</textarea><b>"}}]
    one = Person(serve(write_answers(tmp_path / "answers.jsonl", rows)), database)
    item = one.item()
    assert item
    page = one.get(f"/judge/{item['assignment']}/correct").text
    assert "<script>alert" not in page
    assert "&lt;/textarea&gt;" in page


def test_no_open_bind_without_a_public_url(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--host is '0\.0\.0\.0'.*--public-url"):
        run_server(Start(db=str(tmp_path / "a.db"), host="0.0.0.0", port=0), say=print)
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    "url", ["http://judge.example.org", "ftp://x", "https://x/path", "judge.example.org", "https://"]
)
def test_public_url(url: str) -> None:
    with pytest.raises(UsageError, match="--public-url"):
        Address.of(url)


def test_behind_a_proxy(database: Database) -> None:
    """The address is what people type, whatever the proxy connects to."""
    from safetyvalve.annotate import Settings, create_app

    app = create_app(database, Settings("https://judge.example.org"), watch=False)
    with TestClient(app, base_url="https://judge.example.org", follow_redirects=False) as client:
        answer = client.post(f"/invite/{invite(database)}", headers={"origin": "https://judge.example.org"})
        assert answer.status_code == 303
        assert "secure" in answer.headers["set-cookie"].lower()
        assert "strict-transport-security" in answer.headers
        assert client.get("/", headers={"host": "127.0.0.1:8471"}).status_code == 421


def test_file_is_for_its_owner(tmp_path: Path) -> None:
    Database(str(tmp_path / "a.db")).close()
    assert (tmp_path / "a.db").stat().st_mode & 0o077 == 0
