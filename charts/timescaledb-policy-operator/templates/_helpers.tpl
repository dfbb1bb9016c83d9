{{- define "operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* 50 characters leave room for the suffixes of the objects that need one. */}}
{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "operator.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Name of a cluster-wide object: releases of one name in two namespaces must not meet. */}}
{{- define "operator.clusterName" -}}
{{- $name := include "operator.fullname" . }}
{{- if eq $name .Release.Namespace }}{{ $name }}{{ else }}{{ printf "%s-%s" .Release.Namespace $name }}{{ end }}
{{- end }}

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Labels and annotations of an object: (list context labels annotations). */}}
{{- define "operator.meta" -}}
{{- $ := index . 0 -}}
labels:
  {{- include "operator.labels" $ | nindent 2 }}
  {{- with index . 1 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 2) $.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "operator.leaseName" -}}
{{- default (include "operator.fullname" .) .Values.leaderElection.leaseName }}
{{- end }}

{{- /* (repository, tag or digest) of an image: (list image defaultTag). */}}
{{- define "operator.image" -}}
{{- $image := index . 0 }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default (index . 1) $image.tag) }}
{{- end }}
{{- end }}

{{- define "operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* What the operator does in the namespaces that it looks after. */}}
{{- define "operator.rules" -}}
# The watches, and another look before what cannot be taken back.
- apiGroups: [timescaledb-policy.io]
  resources: [timescaledatabases, hypertables, compressionpolicies, retentionpolicies, continuousaggregates]
  verbs: [get, list, watch]
# The finalizer. A Hypertable never has one.
- apiGroups: [timescaledb-policy.io]
  resources: [timescaledatabases, compressionpolicies, retentionpolicies, continuousaggregates]
  verbs: [patch]
- apiGroups: [timescaledb-policy.io]
  resources:
    - timescaledatabases/status
    - hypertables/status
    - compressionpolicies/status
    - retentionpolicies/status
    - continuousaggregates/status
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- with .Values.rbac.secrets }}
{{- if .create }}
# The credentials of the databases, and their certificate authorities.
- apiGroups: [""]
  resources: [secrets]
  {{- with .names }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  verbs: [get]
{{- end }}
{{- end }}
{{- end }}

{{- /* What the values cannot say together. */}}
{{- define "operator.validate" -}}
{{- if and (not .Values.leaderElection.enabled) (gt (int .Values.replicas) 1) }}
{{- fail "replicas: more than one needs leaderElection.enabled" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor and podMonitor: enable one of them, or every series is scraped twice" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.service.enabled) }}
{{- fail "serviceMonitor.enabled needs service.enabled; without a Service use podMonitor" }}
{{- end }}
{{- if and .Values.monitoringApi.enabled (eq (int .Values.monitoringApi.port) (int .Values.service.port)) }}
{{- fail "monitoringApi.port and service.port: give them different ports" }}
{{- end }}
{{- end }}
