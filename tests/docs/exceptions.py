"""What the documentation shows and `make test-docs` does not run as it stands, each with the reason.

A block is named by its page and its first line; an entry without its block is an error.
"""

# Not run at all.
NOT_RUN = {
    ("README.md", "make demo"): "runs until Ctrl-C; tests/e2e tries its parts, and this would be a cluster within a test",
    ("README.md", "make test"): "this is part of it",
    ("CONTRIBUTING.md", "make check"): "its steps are those of make test, of which this is a part",
    ("docs/install.md", "podman load --input target/packages/pilotfish-0.1.0.oci.tar"):
        "no container engine here; make test-image runs what is in the image",
    ("docs/install.md", "kubectl apply -f deploy/kubernetes/"): "no Kubernetes here; the manifests are checked by schema",
    ("docs/upgrade.md", "install -m 755 pilotfish /usr/bin/pilotfish.new && mv /usr/bin/pilotfish.new /usr/bin/pilotfish"):
        "tests/packages upgrades the installed program while it runs",
    ("docs/upgrade.md", "systemctl edit pilotfish.socket        # if the addresses are not 0.0.0.0:5000 and :5001"):
        "no systemd in the sandbox; tests/it/process/upgrade/passed.rs passes sockets as it does",
    ("docs/two-of-them.md", "systemctl stop keepalived       # the other one takes the address at once"):
        "no keepalived in the sandbox; tests/pair takes these steps on two machines",
}

# Run with another exit code than 0.
EXIT_CODES = {
    # Patroni's template shows HAProxy's page to everybody; pilotfish says that it will not.
    ("docs/move-from-haproxy.md", "pilotfish import-haproxy /etc/haproxy/haproxy.cfg > /etc/pilotfish/config.yaml"): 3,
}

# YAML that is not a configuration of pilotfish, or a part of one.
OTHER_YAML = {}
