-- A store as schema version 1 wrote it.
PRAGMA application_id = 1416129655;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE race_traces (
            race_id INTEGER NOT NULL REFERENCES races (id) ON DELETE CASCADE,
            trace_key TEXT NOT NULL REFERENCES traces (key),
            position INTEGER NOT NULL,
            PRIMARY KEY (race_id, trace_key)
        );
INSERT INTO "race_traces" VALUES(1,'sgd-final-0.1-200',0);
INSERT INTO "race_traces" VALUES(1,'sgd-final-0.1-201',1);
INSERT INTO "race_traces" VALUES(1,'adam-final-0.001-200',2);
INSERT INTO "race_traces" VALUES(1,'adam-final-0.001-201',3);
CREATE TABLE races (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL,
            started_at TEXT NOT NULL,
            finished_at TEXT,     -- NULL: not finished
            record TEXT NOT NULL  -- a Race as JSON, without its traces
        );
INSERT INTO "races" VALUES(1,'made-up-0','2026-01-05T10:00:00+00:00','2026-01-05T10:21:40+00:00','{"key":"made-up-0","plan":{"task":"mnist","task_fingerprint":"5b1d5b1d5b1d5b1d","metric":"accuracy","direction":"higher","contenders":[{"name":"sgd","recipe":{"optimizer":"sgd","lr":0.1,"batch_size":64},"rates":[0.1],"quota":1,"tuned":false},{"name":"adam","recipe":{"optimizer":"adam","lr":0.001,"batch_size":64},"rates":[0.001],"quota":1,"tuned":false}],"steps":8600,"epochs":10.0,"batch_size":64,"train_examples":55000,"validation_examples":5000,"test_examples":10000,"seed":0,"tuning_seeds":[],"final_seeds":[200,201],"executor":"serial","threads":2,"device":"cpu","versions":{"thalweg":"0.1.0","torch":"2.13.0","numpy":"2.2.0","python":"3.11.2"},"schema":1},"traces":[],"verdict":{"metric":"accuracy","direction":"higher","winner":null,"tie":["adam","sgd"],"ranking":[{"optimizer":"adam","rate":0.001,"score":0.9656412763326697,"interval":null,"test":0.9648803641161439,"test_interval":null,"gap":0.017760912216525926,"diverged":0,"seeds":2,"edge":null},{"optimizer":"sgd","rate":0.1,"score":null,"interval":null,"test":null,"test_interval":null,"gap":null,"diverged":1,"seeds":2,"edge":null}],"pairs":[{"a":"adam","b":"sgd","seeds":2,"difference":null,"interval":null,"p":0.5,"p_holm":0.5,"probability_a_better":1.0,"better":null}],"seeds":2,"seeds_needed":6,"sentences":["Not enough seeds to say which is best: 2 optimizers take at least 6, and there were 2.","So far the mean validation accuracy is: adam 0.9656 and sgd without a mean (1 of 2 seeds diverged).","sgd diverged on 1 of 2 final seeds, which counts as worse than any score.","2 seeds cannot give a 95 % interval: it takes 6."],"schema":1},"ledger":{"rows":[{"optimizer":"sgd","rates_tried":[0.1],"tuning_trials":0,"final_trials":2,"diverged_trials":1,"steps":10320,"gradient_examples":660480,"total_seconds":4.128},{"optimizer":"adam","rates_tried":[0.001],"tuning_trials":0,"final_trials":2,"diverged_trials":0,"steps":17200,"gradient_examples":1100800,"total_seconds":6.88}],"total_seconds":11.008},"environment":{"machine":"x86_64","processor":"2 cores","system":"Linux"},"command":"thalweg showdown mnist --optimizers sgd,adam --epochs 10 --batch-size 64","started_at":"2026-01-05T10:00:00+00:00","finished_at":"2026-01-05T10:21:40+00:00"}');
CREATE TABLE traces (
            key TEXT PRIMARY KEY,
            stage TEXT NOT NULL,
            started_at TEXT NOT NULL,
            record TEXT NOT NULL  -- a Trace as JSON
        );
INSERT INTO "traces" VALUES('sgd-final-0.1-200','final','2026-01-05T10:00:00+00:00','{"key":"sgd-final-0.1-200","task":"mnist","contender":"sgd","stage":"final","rate":0.1,"seed":200,"recipe":{"optimizer":"sgd","lr":0.1,"batch_size":64},"outcome":"diverged","steps":1720,"budget_steps":8600,"initial_loss":2.31,"loss_steps":[100,200],"losses":[2.2,null],"evaluations":[],"score":null,"train":{"loss":null,"accuracy":null},"validation":{"loss":null,"accuracy":null},"test":{"loss":null,"accuracy":null},"clipped_fraction":0.0,"parameters":101770,"state_bytes_per_parameter":0.0,"step_seconds":0.00020647189511574252,"total_seconds":0.6880000000000001,"started_at":"2026-01-05T10:00:00+00:00"}');
INSERT INTO "traces" VALUES('sgd-final-0.1-201','final','2026-01-05T10:00:00+00:00','{"key":"sgd-final-0.1-201","task":"mnist","contender":"sgd","stage":"final","rate":0.1,"seed":201,"recipe":{"optimizer":"sgd","lr":0.1,"batch_size":64},"outcome":"completed","steps":8600,"budget_steps":8600,"initial_loss":2.31,"loss_steps":[100,200],"losses":[2.2,1.9],"evaluations":[{"step":7740,"epoch":9.0,"loss":0.3733921567868192,"metrics":{"accuracy":0.8901787774156414}},{"step":8600,"epoch":10.0,"loss":0.3471680684547319,"metrics":{"accuracy":0.8978917445721377}}],"score":0.8978917445721377,"train":{"loss":0.16431997422369526,"accuracy":0.9018917445721377},"validation":{"loss":0.3471680684547319,"accuracy":0.8978917445721377},"test":{"loss":0.3571680684547319,"accuracy":0.8975670075166006},"clipped_fraction":0.0,"parameters":101770,"state_bytes_per_parameter":0.0,"step_seconds":0.00020258864593170934,"total_seconds":3.44,"started_at":"2026-01-05T10:00:00+00:00"}');
INSERT INTO "traces" VALUES('adam-final-0.001-200','final','2026-01-05T10:00:00+00:00','{"key":"adam-final-0.001-200","task":"mnist","contender":"adam","stage":"final","rate":0.001,"seed":200,"recipe":{"optimizer":"adam","lr":0.001,"batch_size":64},"outcome":"completed","steps":8600,"budget_steps":8600,"initial_loss":2.31,"loss_steps":[100,200],"losses":[2.2,1.9],"evaluations":[{"step":7740,"epoch":9.0,"loss":0.11601918958185978,"metrics":{"accuracy":0.9658767089465118}},{"step":8600,"epoch":10.0,"loss":0.12250841486965726,"metrics":{"accuracy":0.9639681132736302}}],"score":0.9639681132736302,"train":{"loss":0.029315295905283523,"accuracy":0.9809681132736302},"validation":{"loss":0.12250841486965726,"accuracy":0.9639681132736302},"test":{"loss":0.13250841486965725,"accuracy":0.9629062372258508},"clipped_fraction":0.0,"parameters":101770,"state_bytes_per_parameter":8.0,"step_seconds":0.00032496571693798855,"total_seconds":3.44,"started_at":"2026-01-05T10:00:00+00:00"}');
INSERT INTO "traces" VALUES('adam-final-0.001-201','final','2026-01-05T10:00:00+00:00','{"key":"adam-final-0.001-201","task":"mnist","contender":"adam","stage":"final","rate":0.001,"seed":201,"recipe":{"optimizer":"adam","lr":0.001,"batch_size":64},"outcome":"completed","steps":8600,"budget_steps":8600,"initial_loss":2.31,"loss_steps":[100,200],"losses":[2.2,1.9],"evaluations":[{"step":7740,"epoch":9.0,"loss":0.11705485015189966,"metrics":{"accuracy":0.9655721028965001}},{"step":8600,"epoch":10.0,"loss":0.11113090606818848,"metrics":{"accuracy":0.9673144393917092}}],"score":0.9673144393917092,"train":{"loss":0.026371992217052387,"accuracy":0.9843144393917093},"validation":{"loss":0.11113090606818848,"accuracy":0.9673144393917092},"test":{"loss":0.12113090606818848,"accuracy":0.9668544910064368},"clipped_fraction":0.0,"parameters":101770,"state_bytes_per_parameter":8.0,"step_seconds":0.0003267479864996728,"total_seconds":3.44,"started_at":"2026-01-05T10:00:00+00:00"}');
CREATE UNIQUE INDEX finished_races ON races (key) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX unfinished_races ON races (key) WHERE finished_at IS NULL;
CREATE VIEW trials AS SELECT
            key,
            json_extract(record, '$.contender') AS contender,
            stage,
            json_extract(record, '$.seed') AS seed,
            json_extract(record, '$.rate') AS rate,
            json_extract(record, '$.outcome') AS outcome,
            json_extract(record, '$.score') AS score,
            started_at
        FROM traces;
COMMIT;
