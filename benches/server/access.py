"""What a policy's `where` costs a read: the same requests by two people, one whose policy shows all, one whose policy
shows, by a condition bound to the caller, just as much. Rounds interleaved, medians and ratios. Run by scripts/bench-access.
"""

import argparse, pathlib, statistics
from compare import Appliance, documents, load, say

PEOPLE = ["open", "bound"]
PASSWORD = "a person's long phrase 1"
# Both see every document: what differs is what is asked of each.
WHERE = {"$or": [{"_owner": "$identity.id"}, {"category": {"$in": [f"K{n}" for n in range(10)]}}]}


class Person(Appliance):
    """The running appliance, asked by somebody who is no administrator."""

    def __init__(self, appliance, who):
        super().__init__(appliance.binary, appliance.work, appliance.port)
        self.process, self.email = appliance.process, f"{who}@bench.test"

    def sign_in(self):
        self.token = None
        body = {"data": {"email": self.email, "password": PASSWORD}}
        self.token = self.call("POST", "/api/v1/auth/login", body)["data"]["accessToken"]


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--appliance", required=True)
    parse.add_argument("--work", required=True)
    parse.add_argument("--documents", type=int, default=100_000)
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--seconds", type=int, default=5)
    options = parse.parse_args()
    work = pathlib.Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    all = list(documents(options.documents))
    ids = work / "ids"
    ids.write_text("".join(document["id"] + "\n" for document in all))
    appliance = Appliance(options.appliance, work, 18643)
    say("preparing")
    appliance.prepare(all)
    appliance.start()
    try:
        appliance.sign_in()
        for who in PEOPLE:
            body = {"email": f"{who}@bench.test", "password": PASSWORD}
            appliance.call("POST", "/api/v1/admin/identities", {"data": body})
        people = {who: Person(appliance, who) for who in PEOPLE}
        figures = {(who, operation): [] for who in PEOPLE for operation in ["read", "page"]}
        for round in range(options.rounds):
            for operation in ["read", "page"]:
                for who in PEOPLE if round % 2 == 0 else reversed(PEOPLE):
                    policy = {"collection": "places", "action": ["VIEW"], "roles": ["identity"]}
                    if who == "bound":
                        policy["where"] = WHERE
                    appliance.call("PUT", "/api/v1/policies/readers", {"data": policy})
                    rate, _, _ = load(people[who], operation, 16, options.seconds, ids)
                    say(f"round {round + 1}: {operation} {who}: {rate:,.0f}/s")
                    figures[who, operation].append(rate)
    finally:
        appliance.stop()
    print("| | no condition | a condition bound to the caller | cost |\n|---|---|---|---|")
    for operation in ["read", "page"]:
        plain, bound = (statistics.median(figures[who, operation]) for who in PEOPLE)
        print(f"| {operation} | {plain:,.0f}/s | {bound:,.0f}/s | {(plain / bound - 1) * 100:.1f} % |")


if __name__ == "__main__":
    main()
