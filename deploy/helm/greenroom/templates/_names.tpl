{{- define "greenroom.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "greenroom.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "greenroom.labels" -}}
{{ include "greenroom.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "greenroom.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* The configuration: the user's, with the addresses of the ports. */ -}}
{{- define "greenroom.config" -}}
{{- $listens := dict "listen" (printf "0.0.0.0:%v" .Values.ports.grpc) "http_listen" (printf "0.0.0.0:%v" .Values.ports.http) -}}
{{- if .Values.ports.wyoming -}}
{{- $_ := set $listens "wyoming_listen" (printf "0.0.0.0:%v" .Values.ports.wyoming) -}}
{{- end -}}
{{- if .Values.auth.allowUnauthenticated -}}
{{- $_ := set $listens "allow_unauthenticated" true -}}
{{- end -}}
{{- $ours := dict "worker" $listens "voices" (dict "directories" (list "/var/lib/greenroom/voices")) -}}
{{- toYaml (mergeOverwrite (deepCopy $ours) (deepCopy .Values.config)) -}}
{{- end -}}

{{- define "greenroom.claim" -}}
{{- .Values.voices.existingClaim | default (printf "%s-voices" (include "greenroom.name" .)) -}}
{{- end -}}

{{- /* "true" where the voices' claim is for one pod at a time, or for one node. */ -}}
{{- define "greenroom.alone" -}}
{{- if and (or .Values.voices.existingClaim .Values.voices.size) (hasPrefix "ReadWriteOnce" .Values.voices.accessMode) -}}
true
{{- end -}}
{{- end -}}
