"""The image, unpacked and run as an engine would: nothing else in its root, nothing writable, not as root.

image.py IMAGE     in the sandbox
"""

import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time

import fakes


def main(image):
    archive = tarfile.open(image)
    blob = lambda digest: archive.extractfile("blobs/" + digest.replace(":", "/")).read()
    index = json.load(archive.extractfile("index.json"))
    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    config = json.loads(blob(manifest["config"]["digest"]))["config"]
    assert config["User"] == "65532:65532", config
    root = pathlib.Path(tempfile.mkdtemp())
    root.chmod(0o755)
    for layer in manifest["layers"]:
        tarfile.open(fileobj=io.BytesIO(blob(layer["digest"]))).extractall(root)
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    assert files == ["usr/bin/pilotfish"], files
    # What compose.yaml and the manifests mount.
    (root / "etc/pilotfish").mkdir(parents=True)
    (root / "etc/pilotfish/config.yaml").write_text("clusters: [{patroni: 'patroni.test:8008'}]\n")
    (root / "etc/hosts").write_text("127.0.0.1 patroni.test\n")
    (root / "run/pilotfish").mkdir(parents=True)
    run = lambda *words: subprocess.run(words, check=True)
    run("mount", "--bind", str(root), str(root))
    run("mount", "-o", "remount,bind,ro", str(root))
    run("mount", "-t", "tmpfs", "-o", "mode=0700,uid=65532,gid=65532", "tmpfs", str(root / "run/pilotfish"))
    fakes.cluster()
    inside = ["chroot", f"--userspec={config['User']}", str(root), "/usr/bin/pilotfish"]
    environment = {"RUNTIME_DIRECTORY": "/run/pilotfish", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    service = subprocess.Popen([*inside, *config["Cmd"]], env=environment)
    try:
        deadline = time.monotonic() + 20
        while not (root / "run/pilotfish/admin.sock").exists():
            assert service.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        asked = subprocess.run([*inside, "status", "--wait-writer", "20s"], env=environment, capture_output=True, text=True)
        assert (asked.returncode, asked.stdout) == (0, "demo: pg1\n"), asked
        health = subprocess.run([*inside, "status", "--ready"], env=environment)
        assert health.returncode == 0, "the check of compose.yaml"
    finally:
        service.terminate()
        code = service.wait(timeout=30)
        subprocess.run(["umount", "-R", "-l", str(root)])
    assert code == 0, code


main(*sys.argv[1:])
