#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# deploy/kubernetes: each scenario is rendered by kubectl, and held against Kubernetes' schema and our own programs.
set -u
. "$(dirname "$0")/lib.sh"
dir=$(tmpdir)
here=$(cd "$(dirname "$0")" && pwd)
overlays=$(cd "$here/../../deploy/kubernetes/overlays" && pwd)

if ! command -v kubectl >/dev/null || ! python3 -c 'import kubernetes.client, yaml' 2>/dev/null; then
        skip "the manifests for Kubernetes" "needs kubectl and python3-kubernetes"
        exit 0
fi
rendered=()
for overlay in "$overlays"/*/; do
        name=$(basename "$overlay")
        # no cluster is asked, nor any configuration of one read
        check "$name is rendered" sh -c "HOME=$dir KUBECONFIG=/dev/null kubectl kustomize '$overlay' >'$dir/$name.yaml'"
        rendered+=("$name=$dir/$name.yaml")
done
for name in wattloop-node wattloop-server wattloop-trust wattloop-weight; do
        check "the operations guide says how to make $name" grep -qE "create (secret generic|configmap) $name " "$here/../../docs/operations.md"
done
python3 "$here/kubernetes_manifests.py" "$BIN" "$dir" "${rendered[@]}" 2>"$dir/err" || not_ok "kubernetes_manifests.py ends well" "$(tail -3 "$dir/err")"
