-- What wrk sends, and what it reports as one line of JSON.
--
--   wrk … -s load.lua URL -- request METHOD PATH [BODY]         the same request over and over
--   wrk … -s load.lua URL -- batches KEYS STEPS RUN [RUN …]     log-batch, KEYS metrics at each of STEPS new steps
--
-- Every thread writes to one of the runs. Threads that share a run take turns in its steps, as the ranks of one
-- training do; otherwise a run's steps rise one by one. They begin at 100 000, so that the body of the next request is
-- the same pieces joined by another number, which is as long.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("id", #threads)
  thread:set("sent", 0)
end

local pieces, number, stride

local function batch_pieces(run, keys, steps)
  local parts = {}
  local at = '{"run_id":"' .. run .. '","metrics":['
  for key = 0, keys - 1 do
    for step = 0, steps - 1 do
      -- With several steps a request the number is followed by the step's two digits.
      local tail = steps > 1 and string.format("%02d", step) or ""
      parts[#parts + 1] = at .. string.format('{"key":"m%d","value":%d.%02d', key, key % 10, step)
      parts[#parts + 1] = ',"timestamp":17000' .. (steps > 1 and "" or "00") -- 13 digits in all: milliseconds
      parts[#parts + 1] = tail .. ',"step":'
      at = tail .. '},'
    end
  end
  parts[#parts + 1] = string.sub(at, 1, -2) .. "]}"
  return parts
end

function init(args)
  wrk.headers["Content-Type"] = "application/json"
  if args[1] == "request" then
    wrk.method, wrk.path, wrk.body = args[2], args[3], args[4]
    local fixed = wrk.format()
    request = function()
      sent = sent + 1
      return fixed
    end
    return
  end
  wrk.method, wrk.path = "POST", "/api/2.0/mlflow/runs/log-batch"
  local runs = #args - 3
  pieces = batch_pieces(args[4 + (id - 1) % runs], tonumber(args[2]), tonumber(args[3]))
  number = 100000
  stride = 1
  if runs == 1 then
    stride = 16
    number = number + id
  end
  request = function()
    sent = sent + 1
    number = number + stride
    return wrk.format(nil, nil, nil, table.concat(pieces, tostring(number)))
  end
end

function done(summary, latency, requests)
  local sent_by = {}
  for _, thread in ipairs(threads) do
    sent_by[#sent_by + 1] = tostring(thread:get("sent"))
  end
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"microseconds":%d,"bytes":%d,"status":%d,"broken":%d,"timeouts":%d,' ..
    '"p50_us":%.0f,"p99_us":%.0f,"max_us":%.0f,"sent":[%s]}\n',
    summary.requests, summary.duration, summary.bytes, errors.status, errors.connect + errors.read + errors.write,
    errors.timeout, latency:percentile(50), latency:percentile(99), latency.max, table.concat(sent_by, ",")))
end
