-- wrk's side of compare.py: one kind of request against one of the two servers.
-- Arguments after `--`: server, operation, file of ids, file with the token.

-- PACE in the environment: each connection waits so many ms before a request.

local server, operation, token
local ids = {}

local function lines(path)
  local all = {}
  for line in io.lines(path) do all[#all + 1] = line end
  return all
end

function setup(thread)
  counter = (counter or 0) + 1
  thread:set("number", counter)
end

function init(args)
  server, operation = args[1], args[2]
  ids = lines(args[3])
  token = lines(args[4])[1]
  math.randomseed(os.time() * 100 + number)
  wrk.headers["Authorization"] = "Bearer " .. token
  wrk.headers["Content-Type"] = "application/json"
end

local note = string.rep("Lorem ipsum dolor sit amet. ", 12)

local function document()
  return string.format(
    '{"name":"Town %d","country":"C%02d","population":%d,"category":"K%d","active":true,"note":"%s"}',
    math.random(1e9), math.random(0, 49), math.random(0, 5000000), math.random(0, 9), note)
end

local requests = {
  appliance = {
    empty = function() return wrk.format("GET", "/api/v1/health") end,
    read = function(id) return wrk.format("GET", "/api/v1/collections/places/documents/" .. id) end,
    create = function()
      return wrk.format("POST", "/api/v1/collections/places/documents", nil, '{"data":' .. document() .. '}')
    end,
    update = function(id)
      local body = string.format('{"data":{"population":%d}}', math.random(0, 5000000))
      return wrk.format("PATCH", "/api/v1/collections/places/documents/" .. id, nil, body)
    end,
    page = function()
      local filter = string.format("%%7B%%22country%%22%%3A%%22C%02d%%22%%2C%%22population%%22%%3A%%7B%%22%%24gt%%22%%3A%d%%7D%%7D",
        math.random(0, 49), math.random(0, 2500000))
      return wrk.format("GET", "/api/v1/collections/places/documents?limit=20&sort=%7B%22population%22%3A1%7D&filter=" .. filter)
    end,
  },
  pocketbase = {
    empty = function() return wrk.format("GET", "/api/health") end,
    read = function(id) return wrk.format("GET", "/api/collections/places/records/" .. id) end,
    create = function() return wrk.format("POST", "/api/collections/places/records", nil, document()) end,
    update = function(id)
      local body = string.format('{"population":%d}', math.random(0, 5000000))
      return wrk.format("PATCH", "/api/collections/places/records/" .. id, nil, body)
    end,
    page = function(_, total)
      local filter = string.format("country%%3D%%22C%02d%%22%%26%%26population%%3E%d", math.random(0, 49), math.random(0, 2500000))
      return wrk.format("GET", "/api/collections/places/records?perPage=20&sort=population&filter=" .. filter ..
        (total and "" or "&skipTotal=1"))
    end,
  },
}
requests.pocketbase.page_total = function() return requests.pocketbase.page(nil, true) end

local pace = tonumber(os.getenv("PACE") or "")
if pace then
  function delay() return pace end
end

function request()
  return requests[server][operation](ids[math.random(#ids)])
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT {"requests":%d,"micros":%d,"bytes":%d,"failed":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
