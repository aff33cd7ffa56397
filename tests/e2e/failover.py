"""Two schedulers over one state directory, one of which leads; and networks that can be cut."""

import contextlib
import fcntl
import json
import os
import queue
import random
import signal
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

from cluster import Cluster, Ports, Process, wait_until


def signal_to(process, number):
    """To the whole group."""
    os.killpg(process.pid, number)


class Pair(Cluster):
    """A cluster with two schedulers. Whatever asks it asks the one that leads."""

    def __init__(self, name, ha="state-dir", hosts=("127.0.0.1", "127.0.0.1"), wrap=lambda place: (), **options):
        self.ha, self.hosts, self.wrap = ha, hosts, wrap
        self.schedulers = [None, None]
        # On a host of its own it meets nobody, and may have any.
        self.ports_of = [Ports() if host == "127.0.0.1" else None for host in hosts]
        super().__init__(name, **options)

    def start_scheduler(self):
        """Both."""
        for number in range(2):
            self.start_one(number)
        self.grpc = ",".join(scheduler.grpc for scheduler in self.schedulers)
        self.scheduler = self.schedulers[0]
        wait_until("one of them leads", self.leader)

    def start_one(self, number):
        """Scheduler 0 or 1, on the ports that it had before."""
        before, kept = self.schedulers[number], self.ports_of[number]
        if kept:
            ports = kept.numbers
        else:
            ports = [address.rpartition(":")[2] for address in before.addresses] if before else ["0", "0", "0"]
        process = Process(
            self.logs / f"scheduler-{number}.log",
            *("scheduler", "--ha", self.ha, "--state-dir", str(self.state), "--bind", self.hosts[number]),
            *("--grpc-port", ports[0], "--connect-port", ports[1], "--http-port", ports[2]),
            wrap=self.wrap(number),
        )
        process.addresses = [process.address(kind) for kind in ("grpc", "connect", "http")]
        process.grpc, process.connect, process.http_address = process.addresses
        self.schedulers[number] = process
        return process

    def health(self, scheduler, seconds=1):
        """What /healthz of a scheduler says; None when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{scheduler.http_address}/healthz", timeout=seconds) as answer:
                return json.loads(answer.read())
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def leader(self):
        """The scheduler that leads; of two that believe so, the later."""
        leaders = []
        for scheduler in self.schedulers:
            if scheduler and scheduler.alive() and (health := self.health(scheduler)) and health["role"] == "leader":
                leaders.append((health["epoch"], scheduler))
        return max(leaders, key=lambda found: found[0])[1] if leaders else None

    def other(self, scheduler):
        return self.schedulers[1 - self.schedulers.index(scheduler)]

    def wait_for_leader(self, expected, seconds=None):
        """Until this scheduler leads."""

        def leads():
            health = self.health(expected, 0.5)
            return health and health["role"] == "leader"

        # Of the other, which may be hung, nothing is asked while the time is measured.
        wait_until("the other scheduler leads", leads, seconds)
        wait_until("no later one leads", lambda: self.leader() is expected)

    @property
    def http(self):
        return wait_until("one of the schedulers leads", self.leader).http_address

    @http.setter
    def http(self, _):
        pass

    def stop(self):
        for process in [*self.executors, *self.schedulers]:
            if process.alive():
                signal_to(process, signal.SIGCONT)
        try:
            self.schedulers[1].terminate()
            self.scheduler = self.schedulers[0]
        finally:
            super().stop()

    def _discard(self):
        for process in self.schedulers:
            if process and process.alive():
                process.kill()
        for kept in self.ports_of:
            if kept:
                kept.close()
        super()._discard()


class Network:
    """Hosts of their own, in network namespaces on one bridge, which can be cut off. Needs root."""

    def __init__(self, hosts):
        number = os.getpid() % 250
        self.name = f"hw{os.getpid() % 100000}"
        self.prefix = f"10.{77 + number % 100}.{number}"
        self.gateway = f"{self.prefix}.1"
        self.addresses = [f"{self.prefix}.{index + 2}" for index in range(hosts)]
        self._ip("link", "add", self.name, "type", "bridge")
        self._ip("addr", "add", f"{self.gateway}/24", "dev", self.name)
        self._ip("link", "set", self.name, "up")
        for index, address in enumerate(self.addresses):
            space, outside, inside = self._names(index)
            self._ip("netns", "add", space)
            self._ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            self._ip("link", "set", inside, "netns", space)
            self._ip("link", "set", outside, "master", self.name)
            self._ip("link", "set", outside, "up")
            self._ip("-n", space, "addr", "add", f"{address}/24", "dev", inside)
            self._ip("-n", space, "link", "set", inside, "up")
            self._ip("-n", space, "link", "set", "lo", "up")

    def _names(self, index):
        return f"{self.name}-{index}", f"{self.name}o{index}", f"{self.name}i{index}"

    def _ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True)

    def wrap(self, index):
        """In front of a command that runs on this host."""
        return ("ip", "netns", "exec", self._names(index)[0])

    def cut(self, index):
        """Nothing goes to this host or comes from it; nobody is told."""
        self._ip("link", "set", self._names(index)[1], "down")

    def mend(self, index):
        self._ip("link", "set", self._names(index)[1], "up")

    def delay(self, index, milliseconds, jitter):
        """What this host sends arrives so much later, but for the jitter, and in its order.

        Its end of the wire is replaced by a TAP device whose frames pass through this process: netem, which does the same
        in the kernel, is not in every kernel.
        """
        space, outside, inside = self._names(index)
        host, bridge = f"{inside}d", f"{outside}d"
        devices = [_tap(host), _tap(bridge)]
        shown = subprocess.run(["ip", "-n", space, "-br", "link", "show", inside], check=True, capture_output=True, text=True)
        mac = shown.stdout.split()[2]
        self._ip("link", "set", outside, "down")
        self._ip("link", "set", host, "netns", space)
        self._ip("-n", space, "link", "del", inside)
        self._ip("-n", space, "link", "set", host, "address", mac)
        self._ip("-n", space, "addr", "add", f"{self.addresses[index]}/24", "dev", host)
        self._ip("-n", space, "link", "set", host, "up")
        self._ip("link", "set", bridge, "master", self.name)
        self._ip("link", "set", bridge, "up")
        threading.Thread(target=_carry, args=(*devices, milliseconds / 1000, jitter / 1000), daemon=True).start()
        threading.Thread(target=_carry, args=(*reversed(devices), 0, 0), daemon=True).start()

    def remove(self):
        for index in range(len(self.addresses)):
            subprocess.run(["ip", "netns", "del", self._names(index)[0]], check=False)
            for device in (self._names(index)[1], f"{self._names(index)[1]}d"):
                subprocess.run(["ip", "link", "del", device], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "del", self.name], check=False)


def _tap(name):
    """A new TAP device, which lives as long as the descriptor."""
    TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def _carry(source, target, delay, jitter):
    """Frames from one device to the other, each so many seconds late."""
    frames = queue.SimpleQueue()

    def deliver():
        while True:
            due, frame = frames.get()
            time.sleep(max(due - time.monotonic(), 0))
            with contextlib.suppress(OSError):  # the device is gone, or down
                os.write(target, frame)

    threading.Thread(target=deliver, daemon=True).start()
    with contextlib.suppress(OSError):
        while True:
            frame = os.read(source, 65536)
            frames.put((time.monotonic() + delay + random.uniform(-jitter, jitter), frame))
