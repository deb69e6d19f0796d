SELECT lane, event_types, includes_result, target FROM own_webhooks WHERE subject_id = :subject
