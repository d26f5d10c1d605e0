-- Programs are connected with the sink, which sleeps when none plays. Nothing is remembered from session to session.
components = {}

local function module(name, args)
  components[name] = { "libwireplumber-module-" .. name, type = "module", args = args }
end

local function script(name, args)
  components[name] = { name, type = "script/lua", args = args }
end

module("metadata")
module("default-nodes", { ["use-persistent-storage"] = false })
module("default-nodes-api")
module("mixer-api")
module("si-node")
module("si-audio-adapter")
module("si-standard-link")
module("si-audio-endpoint")
script("access/access-default.lua")
script("create-item.lua", {})
script("policy-node.lua", { ["move"] = true, ["follow"] = true })
script("suspend-node.lua")
