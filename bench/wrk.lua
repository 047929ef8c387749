-- Payments over 20,000 cards and 500 merchants, each with an id of its own, for wrk. Prints one line of JSON at the end.
-- Environment: BENCH_KEY, BENCH_FLAT (a flat body, for /predict), BENCH_DELAY_MS (pause of each connection between
-- requests on average; drawn, or all of them would come at once).

local key, flat, pause = os.getenv("BENCH_KEY"), os.getenv("BENCH_FLAT"), tonumber(os.getenv("BENCH_DELAY_MS") or "0")
local threads = {}

function setup(thread)
   thread:set("id", #threads)
   table.insert(threads, thread)
end

function init(args)
   math.randomseed(os.time() + id)
   number, fallbacks, odd = 0, 0, 0
   run = os.time() .. "-" .. id .. "-"
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   if key then wrk.headers["Authorization"] = "Bearer " .. key end
end

function request()
   number = number + 1
   local at, card, merchant, amount = os.date("!%Y-%m-%dT%H:%M:%SZ"), math.random(20000), math.random(500), math.random(20000)
   local body
   if flat then
      body = string.format('{"transaction_id":"%s%d","user_id":"c%d","merchant_id":"m%d","amount":%.2f,"timestamp":"%s"', run, number, card, merchant, amount / 100, at)
      for each = 1, 28 do body = body .. string.format(',"V%d":%.3f', each, math.random() - 0.5) end
      body = body .. "}"
   else
      body = string.format('{"transaction_id":"%s%d","card_id":"c%d","amount_minor":%d,"currency":"EUR","timestamp":"%s","channel":"online","merchant_id":"m%d","merchant_category":"5732","country":"FR"}', run, number, card, amount, at, merchant)
   end
   return wrk.format(nil, nil, nil, body)
end

function delay()
   return pause > 0 and math.random(0, 2 * pause) or 0
end

function response(status, headers, body)
   if status ~= 200 then odd = odd + 1 end
   if string.find(body, '"fallback":true', 1, true) then fallbacks = fallbacks + 1 end
end

function done(summary, latency, requests)
   local fell, wrong = 0, 0
   for _, thread in ipairs(threads) do
      fell, wrong = fell + thread:get("fallbacks"), wrong + thread:get("odd")
   end
   local errors = summary.errors
   io.write(string.format('\n{"requests_per_second": %.0f, "p50_ms": %.1f, "p99_ms": %.1f, "fallback_share": %.4f, "not_200": %d, "errors": %d}\n',
      summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
      fell / summary.requests, wrong, errors.connect + errors.read + errors.write + errors.timeout))
end
