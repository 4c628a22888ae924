// Receivers for web frameworks. Each verifies before anything is parsed, answers 401 if the delivery is not genuine and 413 if it is too large.
import { BODY_MAX_BYTES } from "./body.js";
import { WebhookVerificationError } from "./error.js";

const STATUS = { body_too_large: 413, body_used: 500, invalid_secret: 500, secret_too_short: 500 };

const isRefusal = (error) => error instanceof WebhookVerificationError;
const statusOf = (error) => STATUS[error.code] ?? 401;
const answerOf = (error) => ({ code: error.code, message: error.message });

/** The parts of the receivers: this package's `Verifier` and `verifyRequest`, of either build. */
export function receivers({ Verifier, verifyRequest }) {
  return {
    /** Express middleware: `request.webhook` is the verified delivery. Must come before any body parser, or after `express.raw`. */
    expressWebhook(secrets, options = {}) {
      const verifier = new Verifier(secrets, options);
      return async (request, response, next) => {
        try {
          const { headers, body } = request;
          request.webhook =
            body === undefined ? await verifyRequest(request, secrets, options) : verifier.verify({ headers, body }, options);
        } catch (error) {
          if (!isRefusal(error)) return next(error);
          return response.status(statusOf(error)).json(answerOf(error));
        }
        return next();
      };
    },

    /** A Fastify plugin: within its scope bodies stay bytes, and `request.webhook` is the verified delivery. */
    fastifyWebhook(secrets, options = {}) {
      const verifier = new Verifier(secrets, options);
      const bodyLimit = options.maxBodyBytes ?? BODY_MAX_BYTES;
      const plugin = async (scope) => {
        scope.removeAllContentTypeParsers();
        scope.addContentTypeParser("*", { parseAs: "buffer", bodyLimit }, (_request, body, done) => done(null, body));
        scope.decorateRequest("webhook", null);
        scope.addHook("preValidation", async (request, reply) => {
          try {
            request.webhook = verifier.verify({ headers: request.headers, body: request.body ?? "" }, options);
          } catch (error) {
            if (!isRefusal(error)) throw error;
            return reply.code(statusOf(error)).send(answerOf(error));
          }
        });
      };
      // Without this, Fastify would give the plugin its own scope, and the routes next to it would not be in it.
      plugin[Symbol.for("skip-override")] = true;
      return plugin;
    },

    /** A handler of Fetch requests: a Next.js route, a Worker, Deno.serve, Bun.serve. */
    fetchWebhook(secrets, handle, options = {}) {
      return async (request, ...rest) => {
        let webhook;
        try {
          webhook = await verifyRequest(request, secrets, options);
        } catch (error) {
          if (!isRefusal(error)) throw error;
          return Response.json(answerOf(error), { status: statusOf(error) });
        }
        return (await handle(webhook, request, ...rest)) ?? new Response(null, { status: 204 });
      };
    },
  };
}
