{{- /* Managed. The pods of a release: workers, relays, the migration and the test differ only in these arguments. */ -}}

{{- /*
Seconds from SIGTERM to SIGKILL. After the drain's deadline the chassis needs nearly 40 if neither broker nor store nor
collector answers: 5 until cancelled handlers have given up, 24 to stop deliveries, hand back the rest and close the
broker, 7 to close the store and meanwhile flush the traces, 4 for everything else. With an API, 5 come before SIGTERM:
until then gateways and nodes still send requests here.
*/ -}}
{{- define "service.graceSeconds" -}}
{{- add .Values.drainSeconds 40 (ternary 5 0 .Values.api.enabled) -}}
{{- end -}}

{{- /* The plain variables of a worker or a relay. */ -}}
{{- define "service.env" -}}
{{- $env := dict "CHASSIS_DRAIN_SECONDS" (toString .Values.drainSeconds) "CHASSIS_HTTP_PORT" "8080" -}}
{{- if .Values.api.enabled }}{{ $_ := set $env "CHASSIS_API_PORT" "8000" }}{{ end -}}
{{- if or (eq .Values.bus.kind "nats") (eq .Values.inbox.kind "nats-kv") }}{{ $_ := set $env "CHASSIS_NATS_REPLICAS" (toString .Values.bus.natsReplicas) }}{{ end -}}
{{- if include "service.hasRelay" . }}{{ $_ := set $env "CHASSIS_OUTBOX_RELAY" "false" }}{{ end -}}
{{- if include "service.hasMigration" . }}{{ $_ := set $env "CHASSIS_MIGRATE" "false" }}{{ end -}}
{{- merge $env .Values.env | toYaml -}}
{{- end -}}

{{- /* What no container of a pod may do. */ -}}
{{- define "service.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "service.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
{{ toYaml .probe }}
{{- end -}}

{{- /* How a Deployment keeps pods of this release apart: `root`, `component`. */ -}}
{{- define "service.spread" -}}
{{- $selector := printf "%s\napp.kubernetes.io/component: %s" (include "service.selector" .root) .component | fromYaml -}}
{{- range $key, $unsatisfiable := dict "topology.kubernetes.io/zone" .root.Values.topologySpread.zone "kubernetes.io/hostname" .root.Values.topologySpread.host }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: {{ $unsatisfiable }}
  labelSelector:
    matchLabels: {{- toYaml $selector | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}

{{- /*
The spec of a pod. `root`; `component`; `args` of the service's command; `resources`; `serves`: it runs until stopped,
has the HTTP port and drains; `hook`: it runs before the release's other objects exist, so it brings its own.
*/ -}}
{{- define "service.podSpec" -}}
{{- $root := .root -}}
{{- $fullname := include "service.fullname" .root -}}
{{- with .root.Values -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ if and $.hook .serviceAccount.create }}{{ $fullname }}-{{ $.component }}{{ else }}{{ include "service.serviceAccountName" $root }}{{ end }}
{{- with .image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .pod.runAsUser }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- if $.serves }}
terminationGracePeriodSeconds: {{ include "service.graceSeconds" $root }}
topologySpreadConstraints: {{- include "service.spread" $ | trim | nindent 2 }}
{{- else }}
restartPolicy: Never
{{- end }}
{{- with .pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .pod.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .pod.dnsConfig }}
dnsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.initContainers }}
initContainers:
  {{- range . }}
  - {{- merge (dict "securityContext" (merge (fromYaml (include "service.restricted" $root)) (.securityContext | default dict))) . | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
containers:
  - name: {{ $.component }}
    image: {{ include "service.image" $root | quote }}
    imagePullPolicy: {{ .image.pullPolicy }}
    args: {{ toJson $.args }}
    {{- if or (not $.hook) (include "service.hasExternalSecret" $root) }}
    envFrom:
      {{- if not $.hook }}
      - configMapRef:
          name: {{ $fullname }}
      {{- end }}
      {{- if include "service.hasExternalSecret" $root }}
      - secretRef:
          name: {{ $fullname }}{{ if $.hook }}-{{ $.component }}{{ end }}
      {{- end }}
    {{- end }}
    {{- $inline := ternary .env dict (not (not $.hook)) }}
    {{- $secret := ternary (merge (dict) .migration.secretEnv .secretEnv) .secretEnv (not (not $.hook)) }}
    {{- if or $inline $secret }}
    env:
      {{- range $name, $value := $inline }}
      - name: {{ $name }}
        value: {{ $value | quote }}
      {{- end }}
      {{- range $name, $from := $secret }}
      - name: {{ $name }}
        valueFrom:
          secretKeyRef:
            name: {{ $from.name }}
            key: {{ $from.key }}
      {{- end }}
    {{- end }}
    {{- if $.serves }}
    ports:
      - name: http
        containerPort: 8080
        protocol: TCP
      {{- if and .api.enabled (eq $.component "worker") }}
      - name: api
        containerPort: 8000
        protocol: TCP
      {{- end }}
    {{- if and .api.enabled (eq $.component "worker") }}
    lifecycle:
      preStop:
        exec:
          command: [python, -c, "import time; time.sleep(5)"]
    {{- end }}
    startupProbe: {{- include "service.probe" (dict "path" "/livez" "probe" .probes.startup) | nindent 6 }}
    livenessProbe: {{- include "service.probe" (dict "path" "/livez" "probe" .probes.liveness) | nindent 6 }}
    readinessProbe: {{- include "service.probe" (dict "path" "/readyz" "probe" .probes.readiness) | nindent 6 }}
    {{- end }}
    resources: {{- toYaml $.resources | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      {{- include "service.restricted" $root | nindent 6 }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      {{- with .pod.volumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: {{ .pod.tmpSize }}
  {{- with .pod.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}
