-- The conditions follow kstatus: Ready is the summary, Reconciling and Stalled are there only while they are true.
local hs = {}

if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  hs.status = "Progressing"
  hs.message = "Waiting for the operator to look at it"
  return hs
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end

local ready = conditions.Ready
if ready == nil then
  hs.status = "Progressing"
  hs.message = "Waiting for the operator to look at it"
  return hs
end

hs.message = ready.reason .. ": " .. ready.message

if ready.status == "True" then
  -- As for a suspended CronJob: Suspended would hold up a sync for as long as the pause lasts.
  hs.status = "Healthy"
  local refresh = obj.spec.refreshPolicy
  if obj.spec.paused or (refresh ~= nil and refresh.paused) then
    hs.message = "Paused; " .. hs.message
  elseif obj.spec.mode == "Observe" then
    hs.message = "Observe: the database is not changed; " .. hs.message
  end
elseif ready.reason == "DriftObserved" then
  -- The mode Observe of the TimescaleDatabase wants differences to stay: nobody is waited for.
  hs.status = "Healthy"
elseif ready.reason == "ApprovalRequired" then
  hs.status = "Suspended"
elseif conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  hs.status = "Degraded"
else
  hs.status = "Progressing"
end
return hs
