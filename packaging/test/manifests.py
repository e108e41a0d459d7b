"""Reads the chart with Helm's own library, the Compose files with a reader of their specification, and asks the server whether it takes the
settings that they give it.

usage: manifests.py SERVER NATS_SERVER, by a Python that has helm-python-sdk, kubernetes-validate, compose-spec and PyYAML
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import compose_spec
import helm_python as helm
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent.parent
CHART = HERE / "helm" / "boxoffice"
VERSION = tomllib.loads((HERE.parent / "Cargo.toml").read_text())["package"]["version"]
KUBERNETES = "1.34"
CLUSTER = """
[http]
trusted_proxies = ["10.0.0.0/8"]
[cluster]
servers = ["nats://nats-0.nats:4222", "nats://nats-1.nats:4222", "nats://nats-2.nats:4222"]
monitor = ["http://nats-0.nats:8222", "http://nats-1.nats:8222", "http://nats-2.nats:8222"]
"""
THREE = {"replicaCount": 3, "existingSecret": "tickets", "config": CLUSTER}
# What Kubernetes itself puts into the environment of a pod beside a service of this name.
INJECTED = {"BOXOFFICE_SERVICE_HOST": "10.0.0.1", "BOXOFFICE_PORT": "tcp://10.0.0.1:80", "BOXOFFICE_NODES_SERVICE_HOST": "None"}


def settings(server, config, environment):
    """What is in force with these; whoever is refused ends the test."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(config)
        file.flush()
        done = subprocess.run([server, "config", "--config", file.name], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[:200]
    return tomllib.loads(done.stdout)


def render(values):
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="tickets", namespace="sale")
    found = {}
    for name, text in files.items():
        for document in yaml.safe_load_all(text) if name.endswith(".yaml") else []:
            if document:
                key = (document["kind"], document["metadata"]["name"])
                assert key not in found, key
                found[key] = document
    return found


def refuses(values, words):
    try:
        render(values)
    except helm.HelmError as error:
        assert words in str(error), f"{values}: {error}"
    else:
        raise AssertionError(f"{values} is taken")


def check(documents):
    for (kind, name), document in documents.items():
        if kind == "ServiceMonitor":
            # Not Kubernetes' own: its schema comes with Prometheus' operator.
            continue
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def pod(documents):
    return documents["StatefulSet", "tickets-boxoffice"]["spec"]["template"]["spec"]


def environment_of(container):
    variables = {}
    for variable in container["env"]:
        variables[variable["name"]] = variable.get("value", "tickets-boxoffice-0")
    return variables


def selects(selector, labels):
    return selector and selector.items() <= labels.items()


def chart(server):
    for values in ({}, THREE):
        found = helm.lint(str(CHART), values, strict=True, kube_version=KUBERNETES)
        assert not found.get("errors"), found
        # It recommends an icon.
        messages = [message for message in found["messages"] if "icon is recommended" not in str(message)]
        assert not messages, messages
    manifest = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert manifest["appVersion"] == manifest["version"] == VERSION, manifest

    one = render({})
    check(one)
    three = render(THREE)
    check(three)
    everything = render({
        "ingress": {"enabled": True, "className": "nginx", "tls": [{"hosts": ["tickets.example"], "secretName": "tls"}]},
        "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
        "serviceAccount": {"annotations": {"a": "b"}},
        "imagePullSecrets": [{"name": "registry"}],
        "existingSecret": "tickets",
        "extraEnv": [{"name": "BOXOFFICE_LOG_FORMAT", "value": "json"}],
        "nodeSelector": {"disk": "nvme"},
        "tolerations": [{"key": "sale", "operator": "Exists"}],
        "persistence": {"existingClaim": "old", "storageClass": "fast"},
        "networkPolicy": {"from": [{"namespaceSelector": {}}], "metricsFrom": [{"namespaceSelector": {}}], "extraEgress": [{}]},
        "volumes": [{"name": "more", "emptyDir": {}}],
        "volumeMounts": [{"name": "more", "mountPath": "/more"}],
    })
    check(everything)
    assert ("ServiceMonitor", "tickets-boxoffice") in everything and ("Ingress", "tickets-boxoffice") in everything
    check(render({"persistence": {"enabled": False}, "podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}}))

    for documents, replicas in ((one, 1), (three, 3), (everything, 1)):
        stateful = documents["StatefulSet", "tickets-boxoffice"]
        assert stateful["spec"]["replicas"] == replicas
        template = stateful["spec"]["template"]
        labels = template["metadata"]["labels"]
        spec = template["spec"]
        [container] = spec["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert spec["securityContext"]["runAsUser"] == 65532 and container["securityContext"]["readOnlyRootFilesystem"]
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": "ops"}, container[probe]
        # All that points to pods does point to these, and to ports that they have.
        for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            for (of, name), document in documents.items():
                if of == "Service":
                    assert selects(document["spec"]["selector"], labels), name
                    assert all(port["targetPort"] in ports for port in document["spec"]["ports"]), name
                elif of == "PodDisruptionBudget":
                    assert selects(document["spec"]["selector"]["matchLabels"], labels), name
                elif of == "NetworkPolicy":
                    assert selects(document["spec"]["podSelector"]["matchLabels"], labels), name
        assert ("Service", stateful["spec"]["serviceName"]) in documents
        volumes = {volume["name"] for volume in spec["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in stateful["spec"].get("volumeClaimTemplates", [])}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        # The server takes what it is given, beside what Kubernetes puts there.
        config = documents["ConfigMap", "tickets-boxoffice"]["data"]["boxoffice.toml"]
        with tempfile.TemporaryDirectory() as secrets:
            for name in ("auth.secret", "cluster.secret"):
                pathlib.Path(secrets, name).write_text("0" * 44)
            environment = {
                name: value.replace("/etc/boxoffice/secrets", secrets) for name, value in environment_of(container).items()
            }
            got = settings(server, config, INJECTED | environment)
        host, port = got["http"]["ops_listen"].rsplit(":", 1)
        assert (host, int(port)) == ("0.0.0.0", ports["ops"]) and got["http"]["listen"] == f"0.0.0.0:{ports['http']}", got["http"]
        assert got["data_dir"] in [mount["mountPath"] for mount in container["volumeMounts"]], got["data_dir"]
        assert (len(got["cluster"]["servers"]), bool(got["cluster"]["node"])) == ((3, True) if replicas == 3 else (0, False))

    assert "affinity" in pod(three) and "affinity" not in pod(one)
    for values, words in (
        ({**THREE, "replicaCount": 2}, "replicaCount"),
        ({"replicaCount": 0}, "replicaCount"),
        ({"replicas": 3}, "replicas"),
        ({"autoscaling": {"enabled": True}}, "autoscaling"),
        ({**THREE, "config": ""}, "[cluster]"),
        ({**THREE, "existingSecret": ""}, "existingSecret"),
        ({**THREE, "persistence": {"enabled": False}}, "persistence"),
        ({**THREE, "persistence": {"existingClaim": "old"}}, "persistence"),
    ):
        refuses(values, words)
    print(f"helm {helm.helm_sdk_version()}: linted, rendered for one and for three nodes, valid for Kubernetes {KUBERNETES}")


def compose(server, nats_server):
    for name, nodes in (("compose.yaml", ["boxoffice"]), ("compose.cluster.yaml", ["ada", "ben", "eva"])):
        text = (HERE / name).read_text()
        # Compose puts variables in, or their defaults, before it looks at what it has got. Anchors are YAML's.
        document = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
        plain = yaml.safe_dump({key: value for key, value in document.items() if not key.startswith("x-")})
        spec = compose_spec.PyCompose.from_yaml(plain)
        spec.validate()
        spec.to_spec()
        for node in nodes:
            service = document["services"][node]
            assert service["image"] == f"boxoffice:{VERSION}", service["image"]
            assert service["read_only"] and service["cap_drop"] == ["ALL"]
            assert all(port.startswith("127.0.0.1:") for port in service["ports"]), service["ports"]
            assert set(service.get("secrets", [])) <= set(document.get("secrets", {}))
            with tempfile.TemporaryDirectory() as secrets:
                for secret in service.get("secrets", []):
                    pathlib.Path(secrets, secret).write_text("0" * 44)
                environment = {
                    key: value.replace("/run/secrets", secrets) for key, value in service.get("environment", {}).items()
                }
                got = settings(server, "", image_environment() | environment)
            assert f"{got['data_dir']}" in [volume.split(":")[1] for volume in service["volumes"]]
            if len(nodes) > 1:
                hosts = {address.split("//")[1].split(":")[0] for address in got["cluster"]["servers"]}
                assert got["cluster"]["node"] == node and hosts <= set(document["services"]), got["cluster"]
    conf = HERE / "nats" / "nats.conf"
    done = subprocess.run([nats_server, "--config", conf, "--name", "nats-1", "-t"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "sync_interval: always" in conf.read_text()
    print("compose: valid, and the settings in it are taken")


def image_environment():
    """What the recipe of the image sets."""
    text = (HERE / "Dockerfile").read_text().replace("\\\n", " ")
    variables = {}
    for line in text.splitlines():
        if line.startswith("ENV "):
            variables.update(pair.split("=", 1) for pair in line.split()[1:])
    return variables


def image(server):
    lines = (HERE / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = dict(line.split(" ", 1) for line in lines if line and line[0].isupper())
    assert instructions["USER"] == "65532:65532"
    assert instructions["ENTRYPOINT"] == '["/usr/bin/boxoffice-server"]'
    got = settings(server, "", image_environment())
    assert got["data_dir"] == instructions["VOLUME"]
    assert instructions["EXPOSE"].split() == [got["http"][key].split(":")[1] for key in ("listen", "ops_listen")]
    # A command of the server is the only thing in the image that could ask it.
    can_ask = subprocess.run([server, "healthcheck", "--help"], capture_output=True, timeout=60).returncode == 0
    assert can_ask == ("HEALTHCHECK" in instructions), "the recipe has a HEALTHCHECK if and only if the server has the command for it"
    print("image: the recipe's settings are taken" + ("" if can_ask else "; it has no HEALTHCHECK, since the server has no command for it"))


if __name__ == "__main__":
    program, nats = (os.path.abspath(argument) for argument in sys.argv[1:])
    chart(program)
    compose(program, nats)
    image(program)
