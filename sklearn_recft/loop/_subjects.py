"""Users as surrogates, and what they wrote under keys of their own: what a keyed store holds."""

from __future__ import annotations

import hashlib
import os
import threading
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from sklearn_recft.loop._bulk import insert_rows, known_ids, raise_counter, read_counter
from sklearn_recft.loop._errors import StoreError
from sklearn_recft.loop._events import NOBODY, Event
from sklearn_recft.loop._schema import KEYED_VERSION, VERSION, tables
from sklearn_recft.preprocessing import SecretKey

if TYPE_CHECKING:
    from sqlalchemy import Connection

_Row = tuple[Any, ...]
_PURPOSE = b"sklearn_recft store\0"  # the same key may also be that of saved models
_NONCE, _KEY = 12, 32
# Where the texts of the table of users belong.
_SUBJECT = b"a row of the table subject"
# Subjects whose ciphers are kept in memory, 2 KiB each.
_MOST_SUBJECTS = 8_192
# Places of columns in the tables of events and of lists.
_SEQ, _EVENT_ID, _USER, _CONTEXT = 0, 1, 2, 8
_LIST_USER = 2


class ErasedError(StoreError):
    """A row is of a user who was erased: its key is gone."""


class PlainIds:
    """What a store without a key does with ids and texts: nothing."""

    version = VERSION
    key: SecretKey | None = None
    # Counters of a new store, beside those that each has.
    counters: Mapping[str, int] = MappingProxyType({})

    def needs(self, table: str) -> bool:
        """Whether a store has a table of this name."""
        return table != "subject"

    def check(self, name: str, version: int, checked: int | None) -> None:
        """Refuse a database that was made with a key.

        Parameters
        ----------
        name : str
            Of the database.
        version : int
            Of its tables.
        checked : int or None
            Its number of the key.
        """
        if version == KEYED_VERSION:
            raise ValueError(
                f"{name}: its ids are under a key. Give it as key= to FeedbackStore, or "
                "--store-key-file to recft serve."
            )

    def event_name(self, event: Event) -> str:
        """Return what stands for the id of an event in the database."""
        return event.event_id

    def hide_events(
        self, connection: Connection, rows: Sequence[_Row], names: Sequence[str]
    ) -> Sequence[_Row]:
        """Return rows of events, with their `event_name`, as the database holds them."""
        return rows

    def show_events(self, connection: Connection, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Return rows of events as they were, in the order of the table, with further columns."""
        return rows

    def hide_lists(self, connection: Connection, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Return rows of lists as the database holds them."""
        return rows

    def show_user(self, connection: Connection, code: str) -> str:
        """Return the text of the id of a user in a row."""
        return code

    def codes(self, connection: Connection, users: Sequence[str]) -> list[str]:
        """Return what stands for users in rows; those who have no row may be left out."""
        return list(users)

    def hide_reasons(self, connection: Connection, reasons: dict[int, str]) -> dict[int, str]:
        """Return the reasons why events are set aside, as the database holds them."""
        return reasons

    def show_reasons(self, connection: Connection, reasons: dict[int, str]) -> dict[int, str]:
        """Return the reasons as they were."""
        return reasons

    def hide_text(self, text: str) -> str:
        """Return a text of no single user as the database holds it."""
        return text

    def show_text(self, text: str) -> str:
        """Return the text as it was."""
        return text

    def erase(self, connection: Connection, codes: Sequence[str]) -> Sequence[Any]:
        """Destroy the keys of users; return queries of all users in rows that have no key."""
        return ()

    def drop_unused(self, connection: Connection) -> None:
        """Destroy the keys of users who have no rows."""

    def clear(self) -> None:
        """Drop what memory has: a commit failed, so that it may be of no row."""


class _Subject(NamedTuple):
    """A user of a keyed store: the surrogate, the text of the id, and the cipher of the rows."""

    code: str
    text: str
    cipher: Any

    def hide(self, text: str, place: bytes, nonce: bytes) -> str:
        """Encrypt a text; ``place`` is where it belongs, and binds it to there."""
        sealed = self.cipher.encrypt(nonce, text.encode(), place)
        return b2a_base64(nonce + sealed, newline=False).decode()

    def show(self, sealed: str, place: bytes) -> str:
        """Decrypt a text."""
        raw = a2b_base64(sealed)
        found: bytes = self.cipher.decrypt(raw[:_NONCE], raw[_NONCE:], place)
        return found.decode()


class Subjects(PlainIds):
    """Surrogates of users, the next free integers, in the table ``subject``.

    A row of it is found by HMAC-SHA256 of the id under the key of the store. It holds the id and a
    random key of the user's own, both encrypted by AES-256-GCM under the key of the store. The
    user's key encrypts the ids and the contexts of the events, and the reasons why the model
    refused them. Without the row, nothing leads from a surrogate to a user.

    Whoever writes has the only write lock of the database, so that ``erased``, the number of
    erasures so far, tells whether the subjects in memory are still those of the table.

    Parameters
    ----------
    key : str or SecretKey
        Name of an environment variable with the key, or the key itself.

    Raises
    ------
    ImportError
        If the package cryptography is not installed.
    """

    version = KEYED_VERSION

    def __init__(self, key: str | SecretKey) -> None:
        self.key: SecretKey = SecretKey.of(key)
        self._new_cipher, self._invalid = _ciphers()
        self._own = _Subject("", "", self._new_cipher(self._derived(b"cipher")))
        self._hmac = _hmac_of(self._derived(b"lookup"))
        self._number = int.from_bytes(self._derived(b"check")[:7], "big")
        self.counters = {"subject": 0, "erased": 0, "key": self._number}
        self._lock = threading.Lock()
        self._by_text: dict[str, _Subject] = {}  # of writers alone: each is in the table
        self._by_code: dict[str, _Subject] = {}
        self._erased = -1

    def needs(self, table: str) -> bool:
        """Whether a store has a table of this name: all of them."""
        return True

    def check(self, name: str, version: int, checked: int | None) -> None:
        """Refuse a database without a key, or with another one."""
        if version == VERSION:
            raise ValueError(
                f"key: {name} was made without one, and its ids are plain. Give no key, or move "
                "the store to this key by `recft rekey` or change_key."
            )
        if checked != self._number:
            raise ValueError(f"key: {name} was made with another key.")

    def event_name(self, event: Event) -> str:
        """Return what stands for the id of an event in the database."""
        return event.event_id if event.user_id is None else self._tag(event.event_id)

    def hide_events(
        self, connection: Connection, rows: Sequence[_Row], names: Sequence[str]
    ) -> Sequence[_Row]:
        """Return rows of events, with their `event_name`, as the database holds them."""
        subjects = self._ensured(connection, [row[_USER] for row in rows])
        nonces = os.urandom(_NONCE * len(rows))
        hidden = []
        for place, row in enumerate(rows):
            user = row[_USER]
            if user != NOBODY:
                one = subjects[user]
                nonce = nonces[_NONCE * place : _NONCE * (place + 1)]
                text = f"{row[_EVENT_ID]}\0{row[_CONTEXT] or ''}"
                sealed = one.hide(text, b"event %d" % row[_SEQ], nonce)
                own = row[_SEQ], names[place], one.code, *row[3:_CONTEXT], sealed
                row = (*own, *row[_CONTEXT + 1 :])
            hidden.append(row)
        return hidden

    def show_events(self, connection: Connection, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Return rows of events as they were, in the order of the table, with further columns."""
        subjects = self._found(connection, (row[_USER] for row in rows))
        shown = []
        for row in rows:
            code = row[_USER]
            if code != NOBODY:
                one, place = subjects[code], b"event %d" % row[_SEQ]
                text = self._opened(one, row[_CONTEXT], place)
                event_id, _, context = text.partition("\0")
                own = row[_SEQ], event_id, one.text, *row[3:_CONTEXT], context or None
                row = (*own, *row[_CONTEXT + 1 :])
            shown.append(row)
        return shown

    def hide_lists(self, connection: Connection, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Return rows of lists as the database holds them."""
        subjects = self._ensured(connection, [row[_LIST_USER] for row in rows])
        return [
            (*row[:_LIST_USER], subjects[row[_LIST_USER]].code, *row[_LIST_USER + 1 :])
            for row in rows
        ]

    def show_user(self, connection: Connection, code: str) -> str:
        """Return the text of the id of a user in a row."""
        return self._found(connection, [code])[code].text

    def codes(self, connection: Connection, users: Sequence[str]) -> list[str]:
        """Return what stands for users in rows; those who have no row may be left out."""
        return [one.code for one in self._looked_up(connection, users).values()]

    def hide_reasons(self, connection: Connection, reasons: dict[int, str]) -> dict[int, str]:
        """Return the reasons why events are set aside, as the database holds them."""
        owners = self._owners(connection, reasons)
        return {
            seq: owners[seq].hide(text, b"reason %d" % seq, os.urandom(_NONCE))
            for seq, text in reasons.items()
            if seq in owners
        }

    def show_reasons(self, connection: Connection, reasons: dict[int, str]) -> dict[int, str]:
        """Return the reasons as they were."""
        owners = self._owners(connection, reasons)
        return {
            seq: self._opened(owners[seq], text, b"reason %d" % seq)
            for seq, text in reasons.items()
            if seq in owners
        }

    def hide_text(self, text: str) -> str:
        """Return a text of no single user as the database holds it."""
        return self._own.hide(text, b"text", os.urandom(_NONCE))

    def show_text(self, text: str) -> str:
        """Return the text as it was."""
        return self._opened(self._own, text, b"text")

    def erase(self, connection: Connection, codes: Sequence[str]) -> Sequence[Any]:
        """Destroy the keys of users; return queries of all users in rows that have no key."""
        from sqlalchemy import delete, select

        event, shown, subject = (tables()[name] for name in ("event", "shown", "subject"))
        for start in range(0, len(codes), 500):
            part = codes[start : start + 500]
            connection.execute(delete(subject).where(subject.c.user_id.in_(part)))
        self._raise_erased(connection)
        known = select(subject.c.user_id)
        return (
            select(event.c.user_id).where(event.c.user_id != NOBODY, event.c.user_id.not_in(known)),
            select(shown.c.user_id).where(shown.c.user_id.not_in(known)),
        )

    def drop_unused(self, connection: Connection) -> None:
        """Destroy the keys of users who have no rows."""
        from sqlalchemy import delete, exists

        event, shown, subject = (tables()[name] for name in ("event", "shown", "subject"))
        has_rows = [exists().where(one.c.user_id == subject.c.user_id) for one in (event, shown)]
        if connection.execute(delete(subject).where(~has_rows[0], ~has_rows[1])).rowcount:
            self._raise_erased(connection)

    def unsealed(self, sealed: str) -> str:
        """Return what a row of the table ``subject`` holds of a user."""
        return self._opened(self._own, sealed, _SUBJECT)

    def resealed(self, raw: str) -> tuple[str, str]:
        """Return ``lookup`` and ``sealed`` of a row, of what the row of another key holds."""
        text = raw.split("\0", 2)[2]
        return self._tag(f"user\0{text}"), self._own.hide(raw, _SUBJECT, os.urandom(_NONCE))

    def clear(self) -> None:
        """Drop what memory has: a commit failed, so that it may be of no row."""
        with self._lock:
            self._by_text, self._by_code, self._erased = {}, {}, -1

    # ------------------------------------------------------------------ private

    def _derived(self, name: bytes) -> bytes:
        return self.key.digest(_PURPOSE + name)

    def _tag(self, text: str) -> str:
        """Return what an id is found by: 128 bits of its HMAC-SHA256."""
        return b2a_base64(self._hmac(text.encode())[:16], newline=False).decode()

    def _opened(self, subject: _Subject, sealed: str | None, place: bytes) -> str:
        try:
            return subject.show(sealed or "", place)
        except (self._invalid, ValueError):
            raise StoreError(
                f"The text of {place.decode()} is damaged: restore the store from a copy."
            ) from None

    def _raise_erased(self, connection: Connection) -> None:
        raise_counter(connection, "erased", 1)
        self.clear()

    def _subject_of(self, sealed: str) -> _Subject:
        """Return the subject of a row of the table."""
        raw = self.unsealed(sealed)
        secret, code, text = raw.split("\0", 2)
        return _Subject(code, text, self._new_cipher(bytes.fromhex(secret)))

    def _looked_up(self, connection: Connection, users: Iterable[str]) -> dict[str, _Subject]:
        """Return those users who are in the table, by the text of the id."""
        tags = {self._tag(f"user\0{text}"): text for text in users}
        found = {}
        for tag, sealed in known_ids(
            connection, "subject", ("lookup", "sealed"), list(tags), _MOST_SUBJECTS
        ):
            one = self._subject_of(sealed)
            if one.text != tags[tag]:
                raise StoreError(
                    "Two users have the same code in the table subject. Nothing was stored: give "
                    "a new store another key."
                )
            found[one.text] = one
        return found

    def _known(self, connection: Connection, users: Iterable[str]) -> dict[str, _Subject]:
        """Return the same, with the help of memory: only for who has the write lock."""
        erased = read_counter(connection, "erased")
        if erased != self._erased or len(self._by_text) > _MOST_SUBJECTS:
            self._by_text, self._erased = {}, erased
        wanted, known = dict.fromkeys(users), self._by_text
        found = {text: known[text] for text in wanted if text in known}
        absent = [text for text in wanted if text not in found and text != NOBODY]
        if absent:
            new = self._looked_up(connection, absent)
            known.update(new)
            found |= new
        return found

    def _ensured(self, connection: Connection, users: Sequence[str]) -> dict[str, _Subject]:
        """Return users by the text of the id; new ones get a row."""
        found = self._known(connection, users)
        new = [text for text in dict.fromkeys(users) if text not in found and text != NOBODY]
        if not new:
            return found
        last = read_counter(connection, "subject")
        rows = []
        for number, text in enumerate(new, last + 1):
            secret, code = os.urandom(_KEY), str(number)
            raw = f"{secret.hex()}\0{code}\0{text}"
            rows.append((code, *self.resealed(raw)))
            found[text] = self._by_text[text] = _Subject(code, text, self._new_cipher(secret))
        insert_rows(connection, "subject", rows)
        raise_counter(connection, "subject", len(new))
        return found

    def _found(self, connection: Connection, codes: Iterable[str]) -> dict[str, _Subject]:
        """Return users by their surrogates."""
        wanted = dict.fromkeys(code for code in codes if code != NOBODY)
        by_code = self._by_code
        found = {code: by_code[code] for code in list(wanted) if code in by_code}
        absent = [code for code in wanted if code not in found]
        for code, sealed in known_ids(
            connection, "subject", ("user_id", "sealed"), absent, _MOST_SUBJECTS
        ):
            one = self._subject_of(sealed)
            if one.code != code:
                raise StoreError(f"Row {code} of the table subject is damaged: restore a copy.")
            found[code] = one
        if len(found) < len(wanted):
            raise ErasedError(
                f"{len(wanted) - len(found)} users of these rows are not in the table subject. If "
                "they were erased, and older events were restored since, then `forget([])` removes "
                "those; else restore the table from a copy."
            )
        if absent:
            kept = {} if len(by_code) > _MOST_SUBJECTS else by_code
            self._by_code = {**kept, **{code: found[code] for code in absent[:_MOST_SUBJECTS]}}
        return found

    def _owners(self, connection: Connection, seqs: Iterable[int]) -> dict[int, _Subject]:
        """Return the users of events that are in the log."""
        from sqlalchemy import select

        event, wanted, users = tables().event, list(seqs), dict[int, str]()
        for start in range(0, len(wanted), 500):
            part = event.c.seq.in_(wanted[start : start + 500])
            rows = connection.execute(select(event.c.seq, event.c.user_id).where(part))
            users |= {row[0]: row[1] for row in rows}
        subjects = self._found(connection, users.values())
        return {seq: self._own if code == NOBODY else subjects[code] for seq, code in users.items()}


def ids_of(key: str | SecretKey | None) -> PlainIds:
    """Return what a store does with ids: nothing without a key."""
    return PlainIds() if key is None else Subjects(key)


def _hmac_of(key: bytes) -> Callable[[bytes], bytes]:
    """Return HMAC-SHA256 under a key of 32 bytes; it does not begin anew with each message."""
    inner, outer = (
        hashlib.sha256(bytes(one ^ pad for one in key.ljust(64, b"\0"))) for pad in (0x36, 0x5C)
    )

    def digest(message: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    return digest


def _ciphers() -> tuple[Callable[[bytes], Any], type[Exception]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ImportError(
            "key: a keyed store needs cryptography: pip install 'sklearn-recft[privacy]'."
        ) from error
    return AESGCM, InvalidTag
