UPDATE lanes SET holder = NULL WHERE model_id = :model AND tier = 4 AND holder = :worker
