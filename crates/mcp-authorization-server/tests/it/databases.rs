//! Sign-ins, pages and hostile requests with the store in Postgres, and in Aurora DSQL by its emulator.

macro_rules! on_databases {
    ($($module:ident: $($test:ident),*;)*) => {
        mod postgres {
            $(#[test]
            fn $module() {
                $(crate::support::on(mcp_testing::BackendKind::Postgres, stringify!($test), crate::$module::$test);)*
            })*
        }
        mod dsql {
            $(#[test]
            fn $module() {
                $(crate::support::on(mcp_testing::BackendKind::Dsql, stringify!($test), crate::$module::$test);)*
            })*
        }
    };
}

on_databases! {
    sign_in: a_token_of_a_sign_in_verifies_with_the_issuer_alone,
        the_redirect_to_the_client_has_code_state_and_issuer,
        a_refresh_token_is_rotated_and_revoked,
        revoking_everything_ends_all_grants,
        a_second_sign_in_needs_no_consent_and_three_invocations,
        another_person_in_the_same_browser_approves_the_client_too,
        a_client_on_loopback_is_asked_for_each_time_with_a_warning,
        the_consent_page_says_who_asks_for_what_and_is_plain_html,
        denials_are_returned_to_the_client,
        errors_before_the_sign_in_are_not_redirected,
        a_denial_after_the_sign_in_is_redirected,
        scopes_are_those_of_the_persons_claims,
        the_page_of_an_invalid_document_has_the_reason,
        a_registered_client_signs_in,
        a_confidential_client_authenticates_by_its_secret,
        metadata_name_what_clients_look_for,
        the_sign_in_at_the_identity_provider_has_pkce_and_a_nonce;
    grants_page: a_person_sees_the_grants_of_all_browsers_and_revokes_one,
        a_revoked_client_is_shown_for_consent_again,
        each_revocation_of_a_grant_withdraws_all_approvals_of_the_client,
        the_approval_of_a_client_without_refresh_tokens_is_not_stored,
        grants_that_ended_or_were_revoked_are_not_listed,
        a_grant_stays_listed_while_it_is_used,
        grants_that_have_ended_do_not_count_against_the_limit,
        grants_cannot_be_revoked_by_another_site_browser_or_person,
        the_page_has_three_languages_and_no_external_content,
        a_failed_sign_in_for_the_page_is_an_error_without_a_link;
    hostile: a_callback_is_valid_once_in_its_own_browser_for_ten_minutes,
        malformed_callbacks_are_rejected,
        a_response_of_another_issuer_is_a_mix_up,
        a_response_without_the_issuer_that_the_provider_always_sends_is_a_mix_up,
        id_tokens_of_other_sign_ins_clients_and_issuers_are_rejected,
        responses_of_a_broken_identity_provider_are_errors,
        consent_cannot_be_given_by_another_site_or_browser,
        approvals_of_another_browser_or_client_are_not_used,
        hostile_authorization_requests_are_not_redirected,
        a_downgrade_is_an_error_for_the_client,
        hostile_token_requests_get_no_token,
        a_code_of_another_sign_in_cannot_be_injected,
        other_paths_methods_and_bodies_are_rejected;
    hostile_table: no_hostile_request_of_the_tables_succeeds,
        no_document_is_fetched_from_an_address_that_is_not_public,
        a_flood_of_anonymous_requests_from_one_address_is_limited;
}
