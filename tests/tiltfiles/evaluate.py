"""Evaluates both Tiltfiles with what Tilt would give them (api.star) and checks what they ask for.

Run by tests/tiltfiles.sh, which brings the interpreter. Nothing is built or started: what is checked is that the files
run, that all they name exists, that ports agree with the table, and that no cluster but the local one is ever touched.
"""

import os
import re
import sys
from pathlib import Path

import starlark
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
TILT = ROOT / "tilt"
STAGED = ROOT / "target" / "image"  # made by tilt/stage.sh, after a build

failures = []


def check(holds, what):
    if not holds:
        failures.append(what)
        print(f"tiltfiles: FAILED: {what}", file=sys.stderr)


def exists(path, why):
    """A path that a Tiltfile names is there, or below what a build makes."""
    path = Path(os.path.normpath(TILT / path))
    check(path.exists() or path.is_relative_to(STAGED), f"{why}: there is no {path.relative_to(ROOT)}")
    return path


def overlay():
    """What kustomize would make of k8s/overlays/dev, but for its patches. Without k8s/, what it is to hold."""
    if not (ROOT / "k8s").exists():
        names = ["relayer", "settler", "issuer", "redis"]
        return [{"kind": "Deployment", "metadata": {"name": name}, "spec": pod_of(name)} for name in names]
    manifests = [path for part in ["base", "overlays/dev"] for path in sorted((ROOT / "k8s" / part).rglob("*.yaml"))]
    things = [thing for path in manifests for thing in yaml.safe_load_all(path.read_text())]
    return [thing for thing in things if isinstance(thing, dict) and "metadata" in thing and is_whole(thing)]


def pod_of(name):
    container = {"name": name, "image": f"millrace-{name}", "securityContext": {"readOnlyRootFilesystem": True}}
    return {"template": {"spec": {"containers": [container]}}}


def is_whole(thing):
    """Not a patch, which names only what it changes."""
    pod = (thing.get("spec") or {}).get("template", {}).get("spec", {})
    return "kind" in thing and all("image" in container for container in pod.get("containers", []))


class Evaluation:
    """One run of a Tiltfile: what it called, in order."""

    def __init__(self, file, context="kind-millrace", environment=None):
        self.calls = []
        self.environment = dict(environment or {})
        self.file = file
        dialect = starlark.Dialect.extended()
        dialect.enable_top_level_stmt = True
        dialect.enable_load = True
        dialect.enable_load_reexport = True
        self.dialect = dialect
        self.context = context
        self.globals = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        self.run(TILT / file)

    def run(self, path):
        module = starlark.Module()
        module.add_callable("_record", lambda name, call: self.calls.append((name, call)))
        module.add_callable("_read_file", lambda name: exists(name, self.file).read_text())
        module.add_callable("_listdir", lambda name: [str(p) for p in sorted(exists(name, self.file).iterdir())])
        module.add_callable("_local", self.local)
        module.add_callable("_k8s_context", lambda: self.context)
        module.add_callable("_getenv", lambda name, default: self.environment.get(name, default))
        module.add_callable("_putenv", self.environment.__setitem__)
        for source in [Path(__file__).parent / "api.star", path]:
            syntax = starlark.parse(source.name, source.read_text(), self.dialect)
            starlark.eval(module, syntax, self.globals, starlark.FileLoader(self.load))
        return module

    def load(self, name):
        if name.startswith("ext://"):
            return self.run(Path(os.devnull)).freeze()
        return self.run(exists(name, self.file)).freeze()

    def local(self, command):
        check(command == ["../k8s/render.sh", "dev"], f"{self.file}: runs {command}")
        if (ROOT / "k8s").exists():
            exists(command[0], self.file)
            exists("../k8s/overlays/dev/kustomization.yaml", self.file)
        return overlay()

    def of(self, name):
        return [call for called, call in self.calls if called == name]


def refused(file, what, **surroundings):
    """The Tiltfile stops in these surroundings, before it has asked for anything to be started."""
    try:
        Evaluation(file, **surroundings)
    except starlark.StarlarkError as error:
        check(what in str(error), f"{file}: refused, but not because of {what}: {error}")
        return
    check(False, f"{file}: not refused where it must be: {what}")


def table():
    """The ports of tilt/.env, by the names that the Tiltfiles use."""
    lines = (TILT / ".env").read_text().splitlines()
    ports = dict(line.split("=") for line in lines if line.startswith("MILLRACE_PORT_"))
    return {name: int(port) for name, port in ports.items()}


def check_images(run):
    """Every image is a stage of the Dockerfile, takes arguments that it knows, and rebuilds by swapping its program."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM .* AS (\S+)$", dockerfile, re.M)
    arguments = re.findall(r"^ARG (\w+)", dockerfile, re.M)
    builds = {build["ref"]: build for build in run.of("docker_build")}
    services = ["millrace-relayer", "millrace-settler", "millrace-issuer"]
    check(sorted(builds) == sorted([*services, "millrace-tools"]), f"{run.file}: builds {sorted(builds)}")
    for ref, build in builds.items():
        exists(build["dockerfile"], ref)
        check(build["target"] in stages, f"{ref}: no stage {build['target']}")
        for argument in build["build_args"]:
            check(argument in arguments, f"{ref}: the Dockerfile takes no {argument}")
        for path in build["only"]:
            exists(os.path.join(build["context"], path), ref)
    for ref in services:
        program = ref.removeprefix("millrace-")
        swaps = [step for step in builds[ref]["live_update"] if "sync" in step]
        restarts = [step for step in builds[ref]["live_update"] if "restart" in step]
        check(len(swaps) == 1 and len(restarts) == 1, f"{ref}: a live update swaps the program and restarts it")
        exists(swaps[0]["sync"], ref)
        check(swaps[0]["to"] == f"/opt/millrace/bin/{program}", f"{ref}: the program is not in {swaps[0]['to']}")
        check(f"/bin/{program} /opt/millrace/bin/" in dockerfile, f"{ref}: the Dockerfile has its program elsewhere")


def check_buttons(run, form):
    buttons = {button["name"]: button for button in run.of("cmd_button")}
    check(sorted(buttons) == ["audit", "kill-leader", "load"], f"{run.file}: buttons {sorted(buttons)}")
    for name, button in buttons.items():
        words = " ".join(button["argv"]).removeprefix("sh -c ").split()
        script = exists(words[0], f"the button {name}")
        check(os.access(script, os.X_OK), f"the button {name}: {words[0]} cannot be executed")
        check(words[1] == form, f"the button {name} is for {words[1]}")
        inputs = [field["name"] for field in button["inputs"]]
        used = re.findall(r"\$\{(\w+)\}", " ".join(button["argv"]))
        check(sorted(inputs) == sorted(used), f"the button {name} asks for {inputs} and uses {used}")


def check_programs(run):
    resources = {resource["name"]: resource for resource in run.of("local_resource")}
    programs = resources["programs"]
    if "keys" in resources and (ROOT / "k8s").exists():
        script = resources["keys"]["cmd"].split()[1]
        exists(os.path.join(resources["keys"]["dir"], script), "keys")
    for path in programs["deps"]:
        exists(path, "programs")
    script = programs["cmd"].split("&& ")[1].split()[0]
    exists(os.path.join(programs["dir"], script), "programs")


def check_order(run):
    """Whatever waits for a resource waits for one that there is."""
    names = {r["name"] for r in run.of("resource")} | {r["name"] for r in run.of("local_resource")}
    for resource in run.of("resource"):
        for needed in resource["resource_deps"]:
            check(needed in names, f"{run.file}: {resource['name']} waits for {needed}, which there is not")


def check_compose(run, ports):
    (started,) = run.of("docker_compose")
    files = [yaml.safe_load(exists(path, run.file).read_text()) for path in started["files"]]
    exists(started["env_file"], run.file)
    services = files[0]["services"]
    for service in files[1]["services"]:
        check(service in services, f"compose.tilt.yaml: no service {service} in compose.yaml")
    shown = {resource["name"] for resource in run.of("resource")}
    check(shown == set(services) - {"tools"}, f"{run.file}: shows {shown ^ (set(services) - {'tools'})} or not")
    built = {build["ref"] for build in run.of("docker_build")}
    used = {s["image"].removesuffix(":dev") for s in services.values() if s["image"].startswith("millrace-")}
    check(built == used, f"built {built}, used {used}")

    published = [port for service in services.values() for port in service.get("ports", [])]
    variables = [re.fullmatch(r"127\.0\.0\.1:\$\{(MILLRACE_PORT_\w+)\}:\d+", port) for port in published]
    check(all(variables), f"compose.yaml: a port that is not of the table or not of this machine alone: {published}")
    names = sorted(found[1] for found in variables if found)
    check(names == sorted(ports), f"compose.yaml publishes {names}, the table has {sorted(ports)}")

    for service in services.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                exists(volume.split(":")[0], "compose.yaml")
    links = [link["url"] for resource in run.of("resource") for link in resource["links"]]
    linked = {int(re.search(r":(\d+)", url)[1]) for url in links}
    shown_by_link = set(ports.values()) - {ports["MILLRACE_PORT_REDIS"]}
    check(linked == shown_by_link, f"{run.file}: links to {sorted(linked)}, the table has {sorted(shown_by_link)}")


def check_kubernetes(run, ports):
    check(run.of("allow_k8s_contexts") == [{"contexts": "kind-millrace"}], "one context is allowed: kind-millrace")
    things = []
    for call in run.of("k8s_yaml"):
        given = call["yaml"]
        things += list(yaml.safe_load_all(exists(given, run.file).read_text())) if isinstance(given, str) else given
    workloads = {thing["metadata"]["name"] for thing in things if thing["kind"] in ("Deployment", "StatefulSet")}
    for resource in run.of("resource"):
        check(resource["name"] in workloads, f"{run.file}: no workload {resource['name']} among {sorted(workloads)}")
    for thing in things:
        pods = thing.get("spec", {}).get("template", {}).get("spec", {}) if thing["kind"] == "Deployment" else {}
        for container in pods.get("containers", []):
            if container.get("image", "").startswith("millrace-"):
                read_only = container.get("securityContext", {}).get("readOnlyRootFilesystem")
                check(read_only is not True, f"{container['name']}: a rebuilt program cannot be put into it")
        maps = {t["metadata"]["name"] for t in things if t["kind"] == "ConfigMap"}
        if thing["metadata"]["name"] in ("prometheus", "grafana"):
            for volume in pods.get("volumes", []):
                if "configMap" in volume:
                    check(volume["configMap"]["name"] in maps, f"no ConfigMap {volume['configMap']['name']}")
    forwarded = [forward["local"] for resource in run.of("resource") for forward in resource["port_forwards"]]
    check(len(forwarded) == len(set(forwarded)), f"a port is forwarded twice: {forwarded}")
    check(set(forwarded) <= set(ports.values()), f"{run.file}: forwards {forwarded}, which are not in the table")


def check_readme(ports):
    text = (TILT / "README.md").read_text()
    rows = {int(port): name for port, name in re.findall(r"^\| (\d+) \| `(MILLRACE_PORT_\w+)` \|", text, re.M)}
    check(rows == {port: name for name, port in ports.items()}, f"tilt/README.md: ports {rows}, the table has {ports}")


def main():
    ports = table()
    check(len(set(ports.values())) == len(ports), "a port is in the table twice")
    compose, kubernetes = Evaluation("Tiltfile.compose"), Evaluation("Tiltfile")
    for run, form in [(compose, "compose"), (kubernetes, "kubernetes")]:
        check_images(run)
        check_buttons(run, form)
        check_programs(run)
        check_order(run)
    check_compose(compose, ports)
    check_kubernetes(kubernetes, ports)
    check_readme(ports)
    refused("Tiltfile", "the current context is production", context="production")
    refused("Tiltfile.compose", "another machine", environment={"DOCKER_HOST": "tcp://10.0.0.1:2375"})
    moved = Evaluation("Tiltfile.compose", environment={"MILLRACE_PORT_FRONT": "17710", "COMPOSE_PROFILES": ""})
    names = {resource["name"] for resource in moved.of("resource")}
    check("grafana" not in names, "without its profile Grafana is not asked for")
    urls = [link["url"] for resource in moved.of("resource") for link in resource["links"]]
    check("http://127.0.0.1:17710" in urls, f"a port of the environment wins over the table: {urls}")
    if failures:
        sys.exit(1)
    calls = len(compose.calls) + len(kubernetes.calls)
    print(f"tiltfiles: both evaluate, {calls} calls; paths, ports, images, buttons and the context hold")


main()
