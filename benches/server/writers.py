"""Threads that create documents one after the other, each over a connection of its own, and what they notice."""

import http.client, json, ssl, threading, time
from compare import HOST


class Writers:
    def __init__(self, appliance, count, pause=0.0):
        self.appliance, self.pause, self.ended, self.done, self.slowest = appliance, pause, False, [], 0.0
        self.failed, self.lock = None, threading.Lock()
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def write(self, number):
        context = ssl.create_default_context(cafile=self.appliance.ca)
        connection = http.client.HTTPSConnection(HOST, self.appliance.port, context=context)
        headers = {"Authorization": f"Bearer {self.appliance.token}", "Content-Type": "application/json"}
        body = json.dumps({"data": {"name": f"Town {number}", "country": "C99", "population": 1, "note": "x" * 300}})
        while not self.ended:
            begun = time.perf_counter()
            try:
                connection.request("POST", "/api/v1/collections/places/documents", body, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                # Of a server that is killed.
                self.failed = error
                return
            if answer.status == 401:
                with self.lock:
                    if headers["Authorization"] == f"Bearer {self.appliance.token}":
                        self.appliance.sign_in()
                headers["Authorization"] = f"Bearer {self.appliance.token}"
                continue
            assert answer.status == 201, answer.status
            now = time.perf_counter()
            with self.lock:
                self.done.append(now)
                self.slowest = max(self.slowest, now - begun)
            time.sleep(self.pause)

    def give_up(self):
        self.ended = True
        for thread in self.threads:
            thread.join()

    def stop(self):
        """Writes a second, the longest time in ms in which none was acknowledged, the slowest in ms."""
        self.give_up()
        if self.failed:
            raise SystemExit(f"a write failed: {self.failed}")
        gaps = [later - before for before, later in zip(self.done, self.done[1:])]
        return len(self.done) / (self.done[-1] - self.done[0]), max(gaps) * 1000, self.slowest * 1000
