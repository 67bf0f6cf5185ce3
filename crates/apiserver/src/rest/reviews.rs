//! Resources that are only posted to and answered: who am I, may I, and tokens of ServiceAccounts.

use axum::body::Body;
use axum::response::Response;
use http::Request;
use serde_json::{Value, json};

use super::call::Call;
use crate::clock;
use crate::object;
use crate::status::Status;

/// Answers a review. Every authenticated user may do everything here: there is no RBAC.
pub(super) async fn review(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let mut object = call.object(request).await?;
    object::set_meta(&mut object, "creationTimestamp", Value::Null);
    match &*call.resource.kind {
        "Binding" => return super::subresources::bind_posted(call, &object),
        "SelfSubjectReview" => object["status"] = json!({"userInfo": user_info(call)}),
        "TokenReview" => {
            let token = object::str_at(&object, &["spec", "token"]);
            object["status"] = match call.server.auth.user_of(token) {
                Some(user) => json!({
                    "authenticated": true,
                    "user": {"username": user.name, "uid": user.uid, "groups": user.groups},
                }),
                None => json!({"user": {}, "error": "invalid bearer token"}),
            };
        }
        "SelfSubjectRulesReview" => {
            object["status"] = json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": false,
            });
        }
        _ => object["status"] = json!({"allowed": true, "reason": "every authenticated user may do everything"}),
    }
    Ok(call.write(201, &object))
}

/// A bearer token for a ServiceAccount (`serviceaccounts/NAME/token`).
pub(super) async fn token_request(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let account = call.stored()?;
    let bytes = crate::http::read(request.into_body()).await?;
    let mut review = crate::http::decode(&call.headers, &bytes)?;
    let seconds = review["spec"]["expirationSeconds"].as_i64().unwrap_or(3600).clamp(600, 1 << 32);
    let audiences = match review["spec"]["audiences"].as_array() {
        Some(audiences) if !audiences.is_empty() => json!(audiences),
        _ => json!([crate::auth::AUDIENCE]),
    };
    let expires = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    let token = call.server.auth.sign(&account, &audiences, expires);
    review["apiVersion"] = "authentication.k8s.io/v1".into();
    review["kind"] = "TokenRequest".into();
    object::set_meta(&mut review, "name", call.name().into());
    object::set_meta(&mut review, "namespace", call.namespace().into());
    object::set_meta(&mut review, "creationTimestamp", clock::now().into());
    review["spec"]["expirationSeconds"] = json!(seconds);
    review["spec"]["audiences"] = audiences;
    review["status"] = json!({"token": token, "expirationTimestamp": clock::format_seconds(expires)});
    Ok(call.write(201, &review))
}

fn user_info(call: &Call) -> Value {
    json!({"username": call.user.name, "uid": call.user.uid, "groups": call.user.groups})
}
