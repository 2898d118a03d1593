"""Load of shoppers by Locust: lists, clicks on what was shown, and the list after a click.

Start a service, and let shoppers visit it for a while:

python benchmarks/service/bench_http.py --serve FOLDER 8123 None
locust -f benchmarks/service/locustfile.py --headless --users 32 --spawn-rate 32 \
    --run-time 30s --only-summary --host http://127.0.0.1:8123

Only this machine is asked, and a run ends after two minutes at the latest.
"""

import random
from urllib.parse import urlsplit

from locust import FastHttpUser, constant, events, task
from locust.exception import StopUser

N_USERS = 2000
_LONGEST = "2m"


@events.init.add_listener
def check(environment, **_):
    """Refuse to send load to another machine."""
    host = urlsplit(environment.host or "").hostname
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise SystemExit(f"--host: give an address of this machine, not {environment.host!r}.")


@events.init_command_line_parser.add_listener
def bound(parser):
    """End each run, whatever the command line says."""
    parser.set_defaults(run_time=_LONGEST)


class Shopper(FastHttpUser):
    """Ask for a list, and click on one item in four lists; then the next list must know it."""

    wait_time = constant(0)

    def on_start(self):
        """Become one of the users of the log."""
        self.user, self.shown = random.randrange(N_USERS), None

    @task(4)
    def look(self):
        """Ask for a list."""
        found = self._ask("list", "/v1/recommend", {"users": [self.user]})
        self.shown = found["lists"][0]

    @task(1)
    def click(self):
        """Click on an item of the last list, and ask for the next one."""
        if self.shown is None:
            return
        one = random.choice(self.shown["items"])
        event = {"user_id": self.user, "item_id": one["item_id"], "kind": "click"}
        event["list_id"] = self.shown["list_id"]
        seq = self._ask("event", "/v1/events", {"events": [event]})["seq"]
        body = {"users": [self.user], "min_seq": seq}
        found = self._ask("list after a click", "/v1/recommend", body, seq)
        self.shown = found["lists"][0]

    def _ask(self, name, path, body, seq=0):
        """Return the answer; a list that does not know ``seq`` is a failure."""
        with self.client.post(path, json=body, name=name, catch_response=True) as answer:
            if answer.status_code not in (200, 202):
                answer.failure(f"{answer.status_code}: {answer.text}")
                raise StopUser
            found = answer.json()
            if found["seq"] < seq:
                answer.failure(f"the list knows {found['seq']}, not {seq}")
            return found
