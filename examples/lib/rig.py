# SPDX-License-Identifier: BSD-2-Clause
"""What the examples share: a server with disks that fail, as files; loop devices and ext4 on them; programs that live there.

Everything is in one temporary folder. Nothing is left behind, whether an example ends, fails, or is interrupted: what is held
is released, programs are stopped, file systems unmounted, loop devices detached. Ctrl-C reaches the example only,
not the programs it has started, so that all this still works; and an example itself never touches a disk that may hang."""
import json, os, shutil, signal, subprocess, sys, tempfile, time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE_S = 60  # for what takes a second on a machine that has nothing else to do


def need(**programs):
    """need(fio="fio", initdb="postgresql"): a sentence, and the end, unless we are root and all of them are there."""
    # Debian keeps PostgreSQL's programs, and some of root's, away from PATH; a build that is not installed is found, too.
    versions = "/usr/lib/postgresql"
    places = [os.path.join(versions, v, "bin") for v in sorted(os.listdir(versions))[-1:]] if os.path.isdir(versions) else []
    os.environ["PATH"] = ":".join([os.environ["PATH"], "/usr/sbin", "/sbin", *places, os.path.join(TOP, "build")])
    if os.getuid() != 0:
        sys.exit("this needs root, for loop devices and mounts")
    programs = {"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "losetup": "mount", **programs}
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if missing:
        sys.exit("something is missing: apt-get install " + " ".join(missing))
    if not shutil.which("blkproof"):
        sys.exit("there is no blkproof: run make first")
    for device in "/dev/fuse", "/dev/loop-control":
        if not os.path.exists(device):
            sys.exit("there is no " + device)


def quietly(*command, **more):
    """The exit status."""
    return subprocess.run(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, **more).returncode


def output(*command, **more):
    return subprocess.check_output(command, text=True, start_new_session=True, **more).strip()


def wait_for(what, fact, patience_s=PATIENCE_S):
    """The first true value of fact()."""
    end = time.monotonic() + patience_s
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise SystemExit("waited %d s for %s" % (patience_s, what))
        time.sleep(0.02)


class Disk:
    """An image, served with a volatile write cache as a file; a loop device on that, ext4 on folder."""

    def __init__(self, rig, name, size):
        self.rig, self.name = rig, name
        self.image, self.file, self.folder = (rig.path(name + end) for end in (".image", "", ".m"))
        self.loop = None
        self.mounted = False
        with open(self.image, "wb") as f:
            f.truncate(size)
        open(self.file, "w").close()
        os.makedirs(self.folder)

    def described(self, options):
        # What is behind the cache counts as durable, whether or not the host has it on its own disk.
        image = dict(driver="file", filename=self.image, cache={"no-flush": True})
        cache = dict(driver="write-cache", size="16M", file=dict(driver="raw", file=image))
        cache.update(options)
        return "%s=fault::json:%s" % (self.name, json.dumps(cache))

    def path(self, name):
        return os.path.join(self.folder, name)

    def attach(self):
        self.loop = output("losetup", "--direct-io=on", "--show", "-f", self.file)

    def mkfs(self):
        # Else the kernel writes inode tables behind our back, after the mount.
        subprocess.check_call(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.loop])

    def mount(self, options="commit=1"):
        self.mounted = quietly("mount", "-o", options, self.loop, self.folder) == 0
        return self.mounted

    def recover(self):
        """Mount after a power cut, with e2fsck if the kernel cannot do it by itself; returns whether it could."""
        if self.mount():
            return True
        quietly("e2fsck", "-fy", self.loop)
        if not self.mount():
            raise SystemExit("%s: ext4 cannot be mounted, not even after e2fsck" % self.name)
        return False

    def unmount(self):
        if self.mounted:
            wait_for("unmounting %s" % self.folder, lambda: quietly("umount", self.folder) == 0)
            self.mounted = False

    def detach(self):
        self.unmount()
        if self.loop:
            subprocess.check_call(["losetup", "-d", self.loop])
            wait_for("the end of " + self.loop, self.is_detached)
            self.loop = None

    def is_detached(self):
        """Also when the name is another's by now."""
        try:
            with open("/sys/block/%s/loop/backing_file" % os.path.basename(self.loop)) as f:
                return f.read().strip() != self.file
        except OSError:
            return True

    def drop(self):
        """As detach, whatever is wrong."""
        if self.mounted:
            if quietly("umount", self.folder) != 0:
                quietly("umount", "-l", self.folder)
            self.mounted = False
        if self.loop:
            quietly("losetup", "-d", self.loop)
            self.loop = None


class Rig:
    """One server, its disks, and the programs that use them. To be used as `with Rig(...) as rig:`."""

    def __init__(self, name, disks=("disk",), size=48 << 20, cache=None):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has it ignored
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(1))
        self.top = tempfile.mkdtemp(prefix="blkproof-%s-" % name)
        os.chmod(self.top, 0o711)  # a database is not root
        self.cache = cache or {}
        self.programs = []
        self.server = None
        self.disks = [Disk(self, d, size) for d in disks]
        self.disk = self.disks[0]
        self.report = self.path("report.json")
        self.reports_seen = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def path(self, name):
        return os.path.join(self.top, name)

    def serve(self, cache=None):
        """Until stop(); cache: options of all write caches instead of those of the rig."""
        command = ["blkproof", "serve", "-q", "--json", "--qmp", "unix:" + self.path("qmp"), "--power-report", self.report]
        for d in self.disks:
            command += ["--fuse", "%s=%s" % (d.name, d.file)]
        command += ["-f", "raw", *(d.described(self.cache if cache is None else cache) for d in self.disks)]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        if not self.server.stdout.readline():
            sys.exit("the server did not start")

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        status = self.server.wait(timeout=PATIENCE_S)
        self.server = None
        if status != 0:
            sys.exit("blkproof serve: exit status %d" % status)

    def fault(self, *args, **more):
        return output("blkproof", "fault", "--qmp", "unix:" + self.path("qmp"), *args, **more)

    def fired(self, rule, member="fired"):
        disks = json.loads(self.fault("list", "--json"))
        found = [r[member] for d in find(disks, "rules") for r in d if r.get("id") == rule]
        return sum(found)

    def losses(self):
        """Bytes that were lost legally, and illegally, in the power cuts since the last call; and how many cuts there were."""
        with open(self.report) as f:
            reports = [json.loads(line) for line in f][self.reports_seen:]
        for r in reports:  # the counts are those of the list
            for legal, name in ((True, "legal-bytes"), (False, "illegal-bytes")):
                assert r[name] == sum(l["bytes"] for l in r["losses"] if l["legal"] == legal), r
        self.reports_seen += len(reports)
        return sum(r["legal-bytes"] for r in reports), sum(r["illegal-bytes"] for r in reports), len(reports)

    def start(self, command, **more):
        """A program that is stopped at the end, at the latest."""
        self.programs.append(subprocess.Popen(command, start_new_session=True, **more))
        return self.programs[-1]

    def client(self, *args):
        """The example itself as such a program, `run --client ARGS`: its lines, until it ends."""
        p = self.start([sys.executable, sys.argv[0], "--client", *args], stdout=subprocess.PIPE, text=True)
        lines = p.stdout.read().split("\n")[:-1]
        self.kill(p)
        return lines

    def kill(self, program):
        """With all its children; what the kernel holds for it is lost only with the disk."""
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        program.wait()
        if program in self.programs:
            self.programs.remove(program)

    def healthy(self):
        """No rule, no power cut: nobody hangs on a disk."""
        for d in self.disks:
            quietly("blkproof", "fault", "--qmp", "unix:" + self.path("qmp"), "--disk", d.name, "remove", "--all")
        quietly("blkproof", "fault", "--qmp", "unix:" + self.path("qmp"), "power-on")

    def close(self):
        for s in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            signal.signal(s, signal.SIG_IGN)  # from here on it is a matter of a second
        if self.server:
            self.healthy()
        for p in list(self.programs):
            self.kill(p)
        for d in self.disks:
            d.drop()
        if self.server:
            self.server.terminate()
            try:
                self.server.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        for d in self.disks:
            if os.path.ismount(d.file):
                quietly("umount", "-l", d.file)
        shutil.rmtree(self.top, ignore_errors=True)
        for s in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            signal.signal(s, signal.SIG_DFL)


def find(tree, name):
    """Every member of that name, at any depth."""
    if isinstance(tree, list):
        for item in tree:
            yield from find(item, name)
    elif isinstance(tree, dict):
        if name in tree:
            yield tree[name]
        for item in tree.values():
            yield from find(item, name)


class Checks:
    """What was expected, and what came: a line each, then the verdict, in one line."""

    def __init__(self, name):
        self.name, self.wrong = name, 0

    def check(self, right, text):
        self.wrong += not right
        print("    %s %s" % ("as it must be:" if right else "WRONG:", text), flush=True)

    def verdict(self, text):
        """The exit status."""
        if self.wrong:
            print("%s: NOT AS EXPECTED: %d of the checks above failed" % (self.name, self.wrong))
        else:
            print("%s: as expected: %s" % (self.name, text))
        return 1 if self.wrong else 0


def main(example):
    """Run example() and exit with its status; an interrupted one has cleaned up and says so."""
    try:
        sys.exit(example())
    except KeyboardInterrupt:
        sys.exit("interrupted")
